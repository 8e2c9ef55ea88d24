//! The machine: descriptors, memory, certificates, and files that others may read.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use eventodb_server::Tls;
use rustix::process::{Resource, getrlimit};

use super::finding::{Finding, bytes, span};
use crate::serve::{Plan, is_open_to_all};

/// With fewer descriptors a server is of little use.
const FEW_FILES: u64 = 1024;
/// With less memory the caches and buffers of a server push each other out.
const LITTLE_MEMORY: usize = 256 * 1024 * 1024;
/// A certificate that is valid for less than this is told.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// What was found out about the machine.
pub(super) struct Host {
    /// The limit on open files up to which a server may raise its own; `None` if there is none.
    pub(super) files: Option<u64>,
    /// What is wrong with the certificate, how long it is still valid, and its file.
    pub(super) certificate: Option<(Option<&'static str>, Duration, PathBuf)>,
    /// Files with secrets that every user may read, with the flags that name them.
    pub(super) open_files: Vec<(&'static str, PathBuf)>,
}

impl Host {
    /// Looks at this machine.
    pub(super) fn look(plan: &Plan) -> Self {
        let validity = |(tls, file): &(Arc<Tls>, PathBuf)| {
            let (fault, left) = tls.validity(SystemTime::now());
            (fault, left, file.clone())
        };
        Self {
            files: getrlimit(Resource::Nofile).maximum,
            certificate: plan.tls.as_ref().map(validity),
            open_files: plan.secret_files.iter().filter(|(_, file)| is_open_to_all(file)).cloned().collect(),
        }
    }

    /// What is wrong with it for a server with this plan.
    pub(super) fn faults(&self, plan: &Plan) -> Vec<Finding> {
        let mut faults = Vec::new();
        faults.extend(self.few_files(plan));
        faults.extend(memory(plan));
        faults.extend(self.expiry());
        faults.extend(self.open_files.iter().map(|(flag, file)| {
            Finding::warning(
                "SECRET_OPEN",
                format!("every user of this machine may read {} (--{flag})", file.display()),
                "It holds a secret: whoever reads it may do what the server's operator may.",
                format!("chmod 600 {}", file.display()),
            )
        }));
        faults
    }

    fn few_files(&self, plan: &Plan) -> Option<Finding> {
        let limit = self.files?;
        let wanted = plan.connections as u64 + plan.files_of_the_store;
        if limit >= wanted {
            return None;
        }
        let what = format!("the limit on open files is {limit}; --max-connections and the store need {wanted}");
        let why = "Each connection and each file of the store takes one. The server takes fewer connections than it is told \
                   to, so that writes never lack a file.";
        let cure = format!(
            "LimitNOFILE={wanted} in the unit of systemd, `ulimit -Hn {wanted}` as root in a shell, or a lower --max-connections"
        );
        Some(match limit < FEW_FILES {
            true => Finding::error("DESCRIPTORS_FEW", what, why, cure),
            false => Finding::warning("DESCRIPTORS_FEW", what, why, cure),
        })
    }

    fn expiry(&self) -> Option<Finding> {
        let (fault, left, file) = self.certificate.as_ref()?;
        let cure = "Put a new certificate and its key into the files: the server takes them within seconds, without a restart.";
        if let Some(fault) = fault {
            return Some(Finding::error(
                "CERTIFICATE_INVALID",
                format!("the certificate in {} is {fault}", file.display()),
                "Clients that check it refuse to connect.",
                cure,
            ));
        }
        (*left < SOON).then(|| {
            Finding::warning(
                "CERTIFICATE_ENDS",
                format!("the certificate in {} ends in {}", file.display(), span(left.as_secs())),
                "Clients that check it refuse to connect from then on.",
                cure,
            )
        })
    }
}

fn memory(plan: &Plan) -> Option<Finding> {
    let (usable, budget) = (plan.usable_memory, plan.memory_budget);
    let shown = |count: usize| bytes(count as u64);
    if usable < LITTLE_MEMORY {
        return Some(Finding::warning(
            "MEMORY_SMALL",
            format!("this process may use {} of memory", shown(usable)),
            "Requests are shed while the memory is taken, and the system ends a process that takes more.",
            format!(
                "Give it {} or more: MemoryMax in the unit of systemd, --memory of the container",
                shown(LITTLE_MEMORY)
            ),
        ));
    }
    (budget > usable / 2).then(|| {
        Finding::warning(
            "MEMORY_BUDGET",
            format!("--memory-budget is {}, and this process may use {} of memory", shown(budget), shown(usable)),
            "The budget is for requests alone. With the caches of the store beside it the system may end the process.",
            format!("--memory-budget {}, or leave it out", usable / 4),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::Stored;

    fn plan() -> Plan {
        Plan {
            storage: Stored::Memory,
            warnings: Vec::new(),
            connections: 1000,
            files_of_the_store: 4096,
            memory_budget: 1 << 28,
            usable_memory: 1 << 30,
            tls: None,
            secret_files: Vec::new(),
        }
    }

    fn codes(host: &Host, plan: &Plan) -> Vec<(u8, &'static str)> {
        host.faults(plan).iter().map(|finding| (finding.severity as u8, finding.code)).collect()
    }

    /// What depends on the machine's limits is planted here.
    #[test]
    fn each_bound_of_the_machine_is_compared_with_the_plan() {
        let host = |files: u64| Host { files: Some(files), certificate: None, open_files: Vec::new() };
        assert_eq!(codes(&host(5096), &plan()), []);
        assert_eq!(codes(&Host { files: None, ..host(0) }, &plan()), []);
        assert_eq!(codes(&host(5095), &plan()), [(1, "DESCRIPTORS_FEW")]);
        assert_eq!(codes(&host(256), &plan()), [(2, "DESCRIPTORS_FEW")]);
        let small = Plan { usable_memory: 100 << 20, memory_budget: 25 << 20, ..plan() };
        assert_eq!(codes(&host(5096), &small), [(1, "MEMORY_SMALL")]);
        let greedy = Plan { memory_budget: (1 << 29) + 1, ..plan() };
        assert_eq!(codes(&host(5096), &greedy), [(1, "MEMORY_BUDGET")]);
    }

    #[test]
    fn a_certificate_is_told_before_it_ends() {
        let host = |fault, left| Host {
            files: None,
            certificate: Some((fault, left, PathBuf::from("cert.pem"))),
            open_files: Vec::new(),
        };
        assert_eq!(codes(&host(None, SOON), &plan()), []);
        assert_eq!(codes(&host(None, SOON - Duration::from_secs(1)), &plan()), [(1, "CERTIFICATE_ENDS")]);
        assert_eq!(codes(&host(Some("expired"), Duration::ZERO), &plan()), [(2, "CERTIFICATE_INVALID")]);
    }
}
