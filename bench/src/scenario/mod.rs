//! What is measured, one file each kind of load.

pub(crate) mod append;
pub(crate) mod catch_up;
pub(crate) mod constant;
pub(crate) mod poke;
pub(crate) mod read;
pub(crate) mod write;

use clap::ValueEnum;

/// A scenario, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Ceiling: a bare HTTP handler that answers a constant to the same request.
    Noop,
    /// Ceiling: append 4 KiB to a file and wait for the disk.
    Fsync,
    /// `sys.version`: what HTTP and dispatch cost.
    SysVersion,
    /// `stream.write`.
    Write,
    /// `stream.append` of --batch messages.
    Append,
    /// `stream.get` at the beginning of streams.
    StreamGet,
    /// `category.get` near the head.
    CategoryTail,
    /// `category.get` at random positions.
    CategoryGet,
    /// `category.get` at random positions, for one member of --group-size.
    CategoryMember,
    /// The whole log by pages of 1,000, one reader.
    CatchUp,
    /// The whole log by one subscription.
    CatchUpSse,
    /// Write sent to poke parsed, --subscribers over --categories, at --rate.
    Poke,
    /// The same with all subscribers and writes in one category.
    FanOut,
}

impl Scenario {
    /// Its name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it reads what is there, and so needs messages in place.
    pub(crate) fn needs_messages(self) -> bool {
        matches!(
            self,
            Self::StreamGet
                | Self::CategoryTail
                | Self::CategoryGet
                | Self::CategoryMember
                | Self::CatchUp
                | Self::CatchUpSse
        )
    }

    /// Whether work of the server is left when the last answer has come.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Append)
    }

    /// Whether it measures the machine and not the server.
    pub(crate) fn is_ceiling(self) -> bool {
        matches!(self, Self::Noop | Self::Fsync)
    }

    /// Whether --connections says how many connections it has.
    pub(crate) fn has_connections(self) -> bool {
        !matches!(self, Self::Fsync | Self::CatchUp | Self::CatchUpSse | Self::Poke | Self::FanOut)
    }
}
