//! The amount of memory that this process may use.

use std::fs;
use std::path::Path;

/// The amount if the system does not report one.
const UNKNOWN: usize = 1024 * 1024 * 1024;

/// The least of the machine's memory and the limits of the cgroups that the process is in.
pub(super) fn available() -> usize {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    limits(Path::new("/sys/fs/cgroup"), &groups).into_iter().chain(machine).min().unwrap_or(UNKNOWN)
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The limits of a process's cgroups and of the groups above them: `memory.max` in version 2, `memory.limit_in_bytes`
/// in version 1.
fn limits(root: &Path, groups: &str) -> Vec<usize> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = top.join(path.trim_start_matches('/'));
        // In a container the path may be one of the host that does not exist here. The group is then the top one.
        for place in group.ancestors().take_while(|place| place.starts_with(&top)) {
            let limit = fs::read_to_string(place.join(file)).ok();
            limits.extend(limit.and_then(|limit| limit.trim().parse::<usize>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree:  1 kB\n"), Some(16 * 1024 * 1024));
        assert_eq!(total("nothing"), None);
        assert!(available() > 1024 * 1024);
    }

    #[test]
    fn limits_of_both_versions_and_of_groups_above_are_found() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        fs::write(inner.join("memory.max"), "max\n").expect("a file");
        fs::write(root.path().join("a/memory.max"), "1000000\n").expect("a file");
        assert_eq!(limits(root.path(), "0::/a/b\n"), [1_000_000]);
        let old = root.path().join("memory/c");
        fs::create_dir_all(&old).expect("directories");
        fs::write(old.join("memory.limit_in_bytes"), "2000000\n").expect("a file");
        assert_eq!(limits(root.path(), "4:cpu:/\n5:memory,hugetlb:/c\n"), [2_000_000]);
    }
}
