//! Pure readers of procfs text.

/// Whether any path segment of a cgroup file (v1 or v2) names the container: `<id>` or `<engine>-<id>.scope`.
pub(super) fn cgroup_names(cgroup: &str, id: &str) -> bool {
    if id.len() < 16 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    cgroup
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .flat_map(|path| path.split('/'))
        .any(|segment| {
            segment == id
                || segment
                    .strip_suffix(".scope")
                    .unwrap_or(segment)
                    .strip_suffix(id)
                    .is_some_and(|engine| engine.ends_with('-'))
        })
}

/// The fields of a `stat` file after the command name, which may hold any character.
fn stat_fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

/// Start time, field 22 of a `stat` file.
pub(super) fn start_ticks(stat: &str) -> Option<u64> {
    stat_fields(stat)?.nth(19)?.parse().ok()
}

/// Whether a `stat` file shows a process that ended.
pub(super) fn is_zombie(stat: &str) -> bool {
    stat_fields(stat)
        .and_then(|mut fields| fields.next())
        .is_none_or(|state| matches!(state, "Z" | "X" | "x"))
}

/// The mask of caught signals of a `status` file.
pub(super) fn caught_signals(status: &str) -> Option<u64> {
    let text = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))?;
    u64::from_str_radix(text.trim(), 16).ok()
}

/// The outside id for `id`, by the ranges of a `uid_map` or `gid_map` file.
pub(super) fn map_id(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (inside, outside, count) = (
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
            numbers.next()?.ok()?,
        );
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_kernel_makes_a_reader_panic() {
        let stat = b"7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23";
        let status = b"Name:\ta\nSigCgt:\t0000000000000001\n";
        let map = b"0 100000 65536\n";
        let cgroup = b"0::/system.slice/docker-abc.scope\n";
        for text in [stat.as_slice(), status, map, cgroup] {
            keywheel_testkit::hostile(text, |bytes| {
                let text = String::from_utf8_lossy(bytes);
                let _ = (start_ticks(&text), is_zombie(&text));
                let _ = (caught_signals(&text), map_id(&text, 1000));
                let _ = cgroup_names(&text, "abc");
            });
        }
    }

    const ID: &str = "4f0c1f6a2b5d4f0c1f6a2b5d4f0c1f6a2b5d4f0c1f6a2b5d4f0c1f6a2b5d4f0c";

    #[test]
    fn cgroups_of_known_engines_name_their_container() {
        for path in [
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("12:pids:/docker/{ID}\n11:cpu:/\n"),
            format!("1:name=systemd:/system.slice/docker-{ID}.scope\n"),
            format!("0::/machine.slice/libpod-{ID}.scope/container\n"),
            format!("9:memory:/machine.slice/libpod-{ID}.scope\n"),
            format!("4:cpu,cpuacct:/libpod_parent/libpod-{ID}\n0::/\n"),
            format!("0::/kubepods.slice/x/cri-containerd-{ID}.scope\n"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope\n"),
            format!("7:devices:/kubepods/besteffort/pod1/{ID}\n"),
        ] {
            assert!(cgroup_names(&path, ID), "{path}");
        }
    }

    #[test]
    fn other_ids_parts_and_odd_text_do_not_match() {
        let other = ID.replace('4', "5");
        assert!(!cgroup_names(&format!("0::/docker/{other}\n"), ID));
        assert!(!cgroup_names(&format!("0::/docker/{ID}0\n"), ID));
        assert!(!cgroup_names(&format!("0::/docker/x{ID}\n"), ID));
        assert!(!cgroup_names(&format!("0::/docker/{ID}\n"), &ID[..12]));
        assert!(!cgroup_names(&format!("0::/docker/{ID}\n"), ""));
        assert!(!cgroup_names("", ID));
        assert!(!cgroup_names("garbage", ID));
    }

    #[test]
    fn start_time_survives_an_odd_command_name() {
        let stat = "7 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
        assert!(!is_zombie(stat));
        assert!(is_zombie("7 (a) Z 1"));
        assert!(is_zombie(""));
        assert_eq!(start_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn caught_mask_is_hexadecimal() {
        assert_eq!(
            caught_signals("SigIgn:\t0\nSigCgt:\t0000000000010201\n"),
            Some(0x1_0201)
        );
        assert_eq!(caught_signals("Name: x"), None);
    }

    #[test]
    fn ids_map_by_range() {
        let map = "         0     100000      65536\n     70000     200000          1\n";
        assert_eq!(map_id(map, 0), Some(100_000));
        assert_eq!(map_id(map, 65_535), Some(165_535));
        assert_eq!(map_id(map, 65_536), None);
        assert_eq!(map_id(map, 70_000), Some(200_000));
        assert_eq!(map_id("0 0 4294967295", 1000), Some(1000));
        assert_eq!(map_id("", 0), None);
    }
}
