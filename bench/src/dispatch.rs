//! From a case to the load that it is.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::Distribution;
use crate::ceiling::fsync;
use crate::host::cpu;
use crate::load::{self, Loaded, Plan};
use crate::names::Names;
use crate::plan::{plan, subscribers};
use crate::rpc;
use crate::scenario::append::Append;
use crate::scenario::constant::Constant;
use crate::scenario::read::{Filled, Place, Read};
use crate::scenario::streams::Streams;
use crate::scenario::write::{Kind, Write};
use crate::scenario::{Case, Scenario, catch_up, fan_out_writes, hostile, idle, long, mixed, namespaces, poke, rare};
use crate::session::Session;
use crate::wire::Address;

/// Writes a second to the category that subscribers listen to, beside other writes.
const BESIDE: f64 = 50.0;
/// Pokes of a subscription that catches up, at most.
const CATCH_UP_POKES: u64 = 1_000_000;

impl Session<'_> {
    /// One round of a case.
    pub(crate) async fn load(&mut self, case: Case, round: u32) -> anyhow::Result<Loaded> {
        let Case { scenario, width } = case;
        let (args, gauge) = (self.args, Arc::clone(&self.gauge));
        let plan = plan(args, self.hosts.backend(), case);
        let (size, seed) = (args.size, args.seed.wrapping_add(u64::from(round)));
        let filled = match scenario.needs_messages() {
            true => self.filled().await?,
            false => Filled { first: 1, last: 0 },
        };
        let plain = Kind { size, ..Kind::default() };
        match scenario {
            Scenario::Noop => {
                let body = r#"["stream.write","bench0000-00000000",{"type":"Deposited","data":{"amount":1234}}]"#;
                constant(&self.noop, plan, body, width, gauge).await
            }
            Scenario::Fsync => fsync::run(self.directory.path(), plan.duration, None, gauge).await,
            Scenario::SqliteRaw | Scenario::SqliteLogIndex => {
                let is_indexed = scenario == Scenario::SqliteLogIndex;
                let ceiling = self.take_sqlite(is_indexed).await?;
                let (ceiling, loaded) = ceiling.run(width, plan.duration, gauge).await?;
                self.keep_sqlite(is_indexed, ceiling);
                Ok(loaded)
            }
            Scenario::PgRaw => self.postgres().await?.run(width, plan.duration, gauge).await,
            Scenario::SysVersion => constant(&self.main.address, plan, r#"["sys.version"]"#, width, gauge).await,
            Scenario::Write => self.write(plan, plain, width, seed).await,
            Scenario::WriteExpected => self.write(plan, Kind { expects_version: true, ..plain }, width, seed).await,
            Scenario::WriteOneStream => self.write(plan, Kind { one_stream: true, ..plain }, width, seed).await,
            Scenario::WriteClientIds => self.write(plan, Kind { client_ids: true, ..plain }, width, seed).await,
            Scenario::WriteMillion => {
                let (address, names) = self.many().await?;
                let lanes = (0..width).map(|n| Write::new(&address, &names, plain, seed, n)).collect();
                load::run(&address, plan, lanes, gauge).await
            }
            Scenario::Append => {
                let lane = |n| Append::new(&self.main.address, &self.names, args.batch, size, seed, n);
                load::run(&self.main.address, plan, (0..width).map(lane).collect(), gauge).await
            }
            Scenario::StreamTail => {
                let place = self.hot_streams().await?;
                self.read(place, filled, width, plan, seed).await
            }
            Scenario::StreamGet => {
                // Each stream has at least so many of the preloaded messages.
                let length = (filled.last + 1 - filled.first) / self.names.streams();
                self.read(Place::Stream(length), filled, width, plan, seed).await
            }
            Scenario::CategoryTail => {
                let filled = Filled { first: 1, last: rpc::head(&self.main.address).await? };
                self.read(Place::Tail, filled, width, plan, seed).await
            }
            Scenario::CategoryGet => self.read(Place::Anywhere, filled, width, plan, seed).await,
            Scenario::CategoryMember => self.read(Place::Member(args.group_size), filled, width, plan, seed).await,
            Scenario::CatchUp => {
                let lane = catch_up::Pages::new(&self.main.address, filled.last);
                let mut loaded = load::run(&self.main.address, plan, vec![lane], gauge).await?;
                self.expect_all(&mut loaded, filled.last);
                Ok(loaded)
            }
            Scenario::CatchUpSse => {
                let last = filled.last.min(CATCH_UP_POKES);
                let mut loaded = catch_up::subscribe(&self.main.address, last, gauge).await?;
                self.expect_all(&mut loaded, last);
                Ok(loaded)
            }
            Scenario::Poke | Scenario::PokeMany | Scenario::FanOut => {
                let pokes = self.pokes(scenario, plan.rate.unwrap_or(BESIDE), plan.duration);
                poke::run(&self.main.address, pokes, gauge).await
            }
            Scenario::FanOutWrites => {
                let pokes = self.pokes(scenario, BESIDE, Duration::MAX / 4);
                let lanes = (0..width).map(|n| Write::new(&self.main.address, &self.names, plain, seed, n)).collect();
                fan_out_writes::run(&self.main.address, plan, lanes, pokes, gauge).await
            }
            Scenario::Idle => {
                let host = self.hosts.start().await?;
                let count = subscribers(self.args, scenario);
                let loaded = idle::subscriptions(&host, &self.names, count, plan.duration, gauge).await;
                host.stop().await?;
                loaded
            }
            Scenario::IdleServer => {
                let host = self.hosts.start().await?;
                let loaded = idle::server(&host, &self.names, plan.duration, gauge).await;
                host.stop().await?;
                loaded
            }
            Scenario::Hostile => {
                let host = self.hosts.start_guarded(hostile::BUDGET).await?;
                let crowd = subscribers(self.args, scenario);
                let loaded = hostile::run(&host, &self.names, plan, (size, seed, width), crowd, gauge).await;
                host.stop().await?;
                loaded
            }
            Scenario::Mixed => {
                let mix = mixed::Mix {
                    names: self.names.clone(),
                    size,
                    subscribers: subscribers(self.args, scenario),
                    filled,
                    seed,
                };
                mixed::run(&self.main.address, plan, &mix, gauge).await
            }
            Scenario::Rare => {
                let category = self.names.category(0);
                rare::run(&self.rare().await?.address, &category, gauge).await
            }
            Scenario::NsInfo => {
                let address = &self.large().await?.address;
                let body = serde_json::json!(["ns.info", address.namespace()]).to_string();
                constant(address, plan, &body, width, gauge).await
            }
            Scenario::NsStreams => {
                let names = self.many_names();
                let address = &self.large().await?.address;
                load::run(address, plan, vec![Streams::new(address, &names, seed)], gauge).await
            }
            Scenario::NsCategories => {
                constant(&self.large().await?.address, plan, r#"["ns.categories"]"#, width, gauge).await
            }
            Scenario::NsList => {
                let (host, _) = self.crowd().await?;
                constant(&host.address, plan, r#"["ns.list"]"#, width, gauge).await
            }
            Scenario::Namespaces => {
                let (host, all) = self.crowd().await?;
                namespaces::run(host, all, plan, size, gauge).await
            }
            Scenario::TwoServers => self.two_servers(plan, plain, width, seed).await,
            Scenario::Stalls => {
                let lanes = (0..width).map(|n| Write::new(&self.main.address, &self.names, plain, seed, n)).collect();
                long::stalls(&self.main.address, plan, lanes, self.directory.path(), gauge).await
            }
            Scenario::Soak => long::soak(&self.main, plan, &self.names, size, (filled, seed), gauge).await,
            Scenario::Start => long::start(self.large().await?).await,
            Scenario::Grow => anyhow::bail!("grow has rows of its own"),
        }
    }

    async fn write(&self, plan: Plan, kind: Kind, width: u64, seed: u64) -> anyhow::Result<Loaded> {
        let lanes = (0..width).map(|n| Write::new(&self.main.address, &self.names, kind, seed, n)).collect();
        load::run(&self.main.address, plan, lanes, Arc::clone(&self.gauge)).await
    }

    async fn read(&self, place: Place, filled: Filled, width: u64, plan: Plan, seed: u64) -> anyhow::Result<Loaded> {
        let lane = |n| Read::new(&self.main.address, &self.names, place.clone(), filled, seed, n);
        load::run(&self.main.address, plan, (0..width).map(lane).collect(), Arc::clone(&self.gauge)).await
    }

    /// The streams that were just written to, a page of messages each, with their last positions.
    async fn hot_streams(&self) -> anyhow::Result<Place> {
        let hot = self.hot();
        let mut last = Vec::new();
        for number in 0..hot.streams() {
            let asked = serde_json::json!(["stream.version", hot.stream(number)]);
            let version = rpc::call(&self.main.address, &asked).await?;
            last.push(version.as_u64().unwrap_or_default());
        }
        Ok(Place::StreamTail(last.into()))
    }

    /// A log of our own has no gaps: a reader from the first message to `last` sees as many.
    fn expect_all(&self, loaded: &mut Loaded, last: u64) {
        let seen = loaded.measured.messages;
        if self.hosts.backend().is_some() && seen < last && !self.gauge.is_stopped() {
            loaded.measured.error(&anyhow::anyhow!("{seen} of {last} messages were seen"));
        }
    }

    fn pokes(&self, scenario: Scenario, rate: f64, duration: Duration) -> poke::Plan {
        /// Categories of those whose subscribers listen to different ones.
        const CATEGORIES: u64 = 100;
        let categories = if scenario == Scenario::PokeMany { CATEGORIES } else { 1 };
        poke::Plan {
            subscribers: subscribers(self.args, scenario),
            // Of their own, so that nothing else is written to them.
            names: Names::new(categories, categories, Distribution::Uniform).with_prefix("poked"),
            rate,
            duration,
            size: self.args.size,
            ready: Arc::default(),
            over: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Half of the connections through each of two servers.
    async fn two_servers(&self, plan: Plan, kind: Kind, width: u64, seed: u64) -> anyhow::Result<Loaded> {
        let second = self.main.second().await?;
        let other = Address::new(&second.url, None)?;
        let lanes = |address: &Address, from: u64, to: u64| {
            (from..to).map(|n| Write::new(address, &self.names, kind, seed, n)).collect()
        };
        let half = width.div_ceil(2);
        let used = || [self.main.pid(), second.pid()].into_iter().flatten().filter_map(cpu).sum::<Duration>();
        let before = used();
        let both = tokio::try_join!(
            load::run(&self.main.address, plan.clone(), lanes(&self.main.address, 0, half), Arc::clone(&self.gauge)),
            load::run(&other, plan, lanes(&other, half, width.max(half + 1)), Arc::clone(&self.gauge)),
        );
        let server_s = (used() - before).as_secs_f64();
        second.kill().await?;
        let (mut one, other) = both?;
        one.measured.add(other.measured);
        one.elapsed = one.elapsed.max(other.elapsed);
        one.server_s = Some(server_s);
        Ok(one)
    }
}

/// The same request over and over.
pub(crate) async fn constant(
    address: &Address,
    plan: Plan,
    body: &str,
    width: u64,
    gauge: Arc<crate::measure::Gauge>,
) -> anyhow::Result<Loaded> {
    let lanes = vec![Constant(address.call(body)); width as usize];
    load::run(address, plan, lanes, gauge).await
}
