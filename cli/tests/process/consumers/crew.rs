//! The members of a test, and what befalls them: they are killed, stopped for longer than their lease, and told to end.

use std::collections::HashSet;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use tokio::time::Instant;

use super::SESSION;
use super::cluster::Cluster;
use super::member::{Process, Settings, Work};

pub(super) struct Crew {
    members: Vec<Member>,
    work: Work,
    failing: i64,
    /// How many processes were started.
    started: usize,
    /// Processes that were killed, or stopped for longer than their lease: what they had in hand may come late.
    pub(super) disturbed: HashSet<usize>,
    pub(super) told: Told,
}

/// How often members were disturbed.
#[derive(Debug, Default)]
pub(super) struct Told {
    killed: usize,
    stopped: usize,
    terminated: usize,
}

struct Member {
    process: Process,
    /// Until when it is stopped.
    stopped: Option<Instant>,
}

impl Crew {
    /// Members over all servers.
    pub(super) fn start(cluster: &Cluster, size: usize, work: Work, failing: i64) -> Self {
        let (members, disturbed) = (Vec::new(), HashSet::new());
        let mut crew = Self { members, work, failing, started: 0, disturbed, told: Told::default() };
        for at in 0..size {
            let process = Process::start(crew.next(cluster, Some(format!("m{at}"))));
            crew.members.push(Member { process, stopped: None });
        }
        crew
    }

    /// The settings of the next process.
    fn next(&mut self, cluster: &Cluster, name: Option<String>) -> Settings {
        let number = self.started;
        self.started += 1;
        let (work, failing, url) = (self.work.clone(), self.failing, cluster.url(number));
        Settings { number, url, name, work, failing }
    }

    /// Disturbs a random member that is not stopped.
    pub(super) async fn disturb(&mut self, cluster: &Cluster, random: &mut StdRng) {
        let at = random.random_range(0..self.members.len());
        if self.members[at].stopped.is_some() {
            return;
        }
        match random.random_range(0..6) {
            0..=1 => {
                // Its lease goes on if nobody takes its name.
                let name = random.random::<bool>().then(|| format!("m{at}"));
                self.kill(cluster, at, name).await;
                self.told.killed += 1;
            }
            2..=4 => {
                self.disturbed.insert(self.members[at].process.settings.number);
                self.members[at].process.signal(Signal::STOP);
                self.members[at].stopped = Some(Instant::now() + 2 * SESSION);
                self.told.stopped += 1;
            }
            _ => {
                self.restart(cluster, at).await;
                self.told.terminated += 1;
            }
        }
    }

    /// Tells a member to end, and starts another one of its name once it has. It may wait for a lock in the database of its
    /// read model that a stopped one has.
    pub(super) async fn restart(&mut self, cluster: &Cluster, at: usize) {
        let next = self.next(cluster, Some(format!("m{at}")));
        let mut ending = std::pin::pin!(self.members.remove(at).process.terminate());
        while tokio::time::timeout(SESSION / 4, &mut ending).await.is_err() {
            self.go_on(Instant::now());
        }
        self.members.insert(at, Member { process: Process::start(next), stopped: None });
    }

    /// Kills a member and starts another one. Returns the number of the one that was killed.
    pub(super) async fn kill(&mut self, cluster: &Cluster, at: usize, name: Option<String>) -> usize {
        let next = self.next(cluster, name);
        let killed = self.members.remove(at).process;
        let number = killed.settings.number;
        killed.kill().await;
        self.disturbed.insert(number);
        self.members.insert(at, Member { process: Process::start(next), stopped: None });
        number
    }

    /// Continues those that were stopped long enough.
    fn go_on(&mut self, now: Instant) {
        for member in &mut self.members {
            if member.stopped.take_if(|until| *until <= now).is_some() {
                member.process.signal(Signal::CONT);
            }
        }
    }

    /// Continues those that were stopped long enough, and starts those again that were replaced, as a service manager does:
    /// the join of a process that was killed may arrive behind that of the next one of its name.
    pub(super) fn tend(&mut self, cluster: &Cluster, now: Instant) {
        self.go_on(now);
        for at in 0..self.members.len() {
            let member = &mut self.members[at];
            if member.process.is_replaced() {
                assert!(self.told.killed > 0, "nobody else had its name");
                self.disturbed.insert(member.process.settings.number);
                let process = Process::start(self.next(cluster, Some(format!("m{at}"))));
                self.members[at] = Member { process, stopped: None };
            }
        }
    }

    /// Continues all.
    pub(super) async fn rest(&mut self, cluster: &Cluster) {
        let last = self.members.iter().filter_map(|member| member.stopped).max();
        if let Some(last) = last {
            tokio::time::sleep_until(last).await;
        }
        self.tend(cluster, Instant::now());
    }

    pub(super) async fn terminate(self) {
        for member in self.members {
            member.process.terminate().await;
        }
    }
}
