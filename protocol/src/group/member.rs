//! Which member of a static group, or which partition of a kept one, a stream belongs to.

use md5::{Digest, Md5};
use serde::Serialize;

use crate::name;

/// One member of a consumer group of `size` members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ConsumerGroup {
    member: u64,
    size: u64,
}

impl ConsumerGroup {
    /// Member `member` of `size`, or `None` unless `0 <= member < size`.
    pub fn new(member: i64, size: i64) -> Option<Self> {
        let (member, size) = (u64::try_from(member).ok()?, u64::try_from(size).ok()?);
        (member < size).then_some(Self { member, size })
    }

    /// Which member this is, counted from 0.
    pub fn member(self) -> u64 {
        self.member
    }

    /// How many members the group has.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Whether this member is the one that a stream with this [`stream_hash`] belongs to.
    pub fn owns_hash(self, hash: i64) -> bool {
        hash.unsigned_abs() % self.size == self.member
    }

    /// Whether this member is the one that `stream` belongs to.
    pub fn owns(self, stream: &str) -> bool {
        self.owns_hash(stream_hash(stream))
    }
}

/// The hash that assigns streams to the members of a group: the first 8 bytes of the MD5 of the cardinal id, as a
/// big-endian signed integer.
///
/// A stream without a cardinal id is hashed by its whole name, so that every stream belongs to exactly one member.
/// Source: Message DB's `hash_64`, by which no member has such a stream.
pub fn stream_hash(stream: &str) -> i64 {
    let key = name::cardinal_id(stream).filter(|id| !id.is_empty()).unwrap_or(stream);
    let digest: [u8; 16] = Md5::digest(key.as_bytes()).into();
    i64::from_be_bytes(*digest.first_chunk().expect("an MD5 has 16 bytes"))
}

/// The partition of `stream` in a group of `count` partitions, counted from 0. It is the member of the same number of a
/// static group of that size.
///
/// # Panics
/// If `count` is 0. A group has at least one partition.
pub fn partition_of(stream: &str, count: u32) -> u32 {
    partition_of_hash(stream_hash(stream), count)
}

/// The partition of a stream with this [`stream_hash`].
///
/// # Panics
/// If `count` is 0.
pub fn partition_of_hash(hash: i64, count: u32) -> u32 {
    let partition = hash.unsigned_abs() % u64::from(count);
    u32::try_from(partition).expect("the rest of a division by a u32 is a u32")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_are_checked() {
        assert!(ConsumerGroup::new(0, 1).is_some());
        for (member, size) in [(1, 1), (-1, 2), (0, 0), (0, -1), (i64::MIN, i64::MAX)] {
            assert!(ConsumerGroup::new(member, size).is_none(), "{member} of {size}");
        }
    }

    /// Values computed with `md5sum`: the first 16 hex digits, read as a signed number.
    #[test]
    fn hash_is_message_dbs() {
        // md5("123") = 202cb962ac59075b…
        assert_eq!(stream_hash("account-123"), 0x202c_b962_ac59_075b);
        assert_eq!(stream_hash("account-123+retry"), 0x202c_b962_ac59_075b);
        // md5("account") = e268443e43d93dab…
        assert_eq!(stream_hash("account"), 0xe268_443e_43d9_3dab_u64.cast_signed());
    }

    #[test]
    fn the_minimum_does_not_overflow() {
        let group = ConsumerGroup::new(0, 8).expect("0 of 8 is a member");
        assert!(group.owns_hash(i64::MIN));
    }

    proptest! {
        #[test]
        fn every_stream_has_exactly_one_member(stream in "\\PC{1,20}", size in 1i64..9) {
            let owners = (0..size)
                .filter(|&member| ConsumerGroup::new(member, size).is_some_and(|g| g.owns(&stream)))
                .count();
            prop_assert_eq!(owners, 1);
        }

        #[test]
        fn a_partition_has_the_streams_of_the_member_of_that_number(stream in "\\PC{1,20}", count in 1u32..9) {
            let member = ConsumerGroup::new(partition_of(&stream, count).into(), count.into()).expect("a member");
            prop_assert!(member.owns(&stream));
        }

        #[test]
        fn streams_of_one_cardinal_id_share_a_member(id in "[^+]{1,8}", suffix in "\\PC{0,8}", size in 1i64..9) {
            let group = ConsumerGroup::new(0, size).expect("0 is a member of any group");
            prop_assert_eq!(group.owns(&format!("a-{id}")), group.owns(&format!("b-{id}+{suffix}")));
        }
    }
}
