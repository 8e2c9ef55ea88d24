//! Load generator for servers that speak the EventoDB protocol, and the ceilings that its figures are held against.
//!
//! It speaks the public protocol only. It starts its server as a process of its own, or measures one at a URL.

mod args;
mod block;
mod ceiling;
mod clock;
mod environment;
mod estimate;
mod grow;
mod host;
mod load;
mod measure;
mod names;
mod pace;
mod plan;
mod preload;
mod progress;
mod ramp;
mod random;
mod report;
mod resident;
mod rpc;
mod run;
mod scenario;
mod session;
mod target;
mod wire;

pub use self::args::{Args, Backend, Command};
pub use self::ceiling::noop;
pub use self::estimate::outline;
pub use self::measure::{Bucket, Second};
pub use self::names::Distribution;
pub use self::plan::LEAST_ON_SQLITE;
pub use self::ramp::Stage;
pub use self::report::{
    Compared, Comparison, Figures, Pair, Picture, Report, Round, Row, Target, Threshold, Tolerance, compare, fill,
    html, pictures, table,
};
pub use self::run::run;
pub use self::scenario::Scenario;
pub use self::target::Verdict;
