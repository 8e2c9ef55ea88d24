//! The places of messages that are in the log but not in the index yet.
//!
//! It answers what the index will answer once it has caught up: positions by stream, by category
//! and by id. Texts stay in the log. Whoever reads both must look here **first**: an entry leaves
//! only after the index has it, so what is neither here nor, afterwards, in the index does not
//! exist. [`Memtable::floor`] is where the two meet.

use std::collections::VecDeque;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use eventodb_schema::group::stream_hash;
use eventodb_schema::message::Message;
use eventodb_schema::name;
use foldhash::HashMap;
use uuid::Uuid;

/// What the index keeps of one message.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) global_position: i64,
    pub(super) stream: Arc<str>,
    pub(super) position: i64,
    pub(super) starts_stream: bool,
    pub(super) id: Uuid,
    pub(super) hashes: Hashes,
}

/// The columns that filters are answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    /// [`stream_hash`]: decides the member of a consumer group.
    pub(super) stream: i64,
    /// [`text_hash`] of the type.
    pub(super) kind: i64,
    /// [`text_hash`] of the correlation category.
    pub(super) correlation: Option<i64>,
}

impl Place {
    pub(super) fn of(message: &Message, correlation: Option<&str>, starts_stream: bool) -> Self {
        Self {
            global_position: message.global_position,
            stream: message.stream.clone(),
            position: message.position,
            starts_stream,
            id: message.id,
            hashes: Hashes {
                stream: stream_hash(&message.stream),
                kind: text_hash(&message.kind),
                correlation: correlation.map(text_hash),
            },
        }
    }

    pub(super) fn in_stream(&self) -> StreamPlace {
        StreamPlace { position: self.position, global_position: self.global_position, kind: self.hashes.kind }
    }

    pub(super) fn in_category(&self) -> CategoryPlace {
        CategoryPlace { global_position: self.global_position, hashes: self.hashes }
    }
}

/// A 32-bit hash of a type or category. Two may share one, so a match is confirmed by the log.
///
/// FNV-1a; source: <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(super) fn text_hash(text: &str) -> i64 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    places: VecDeque<Place>,
    /// Position of the last message that is not here: everything up to it is indexed.
    completion: i64,
    ids: HashMap<Uuid, i64>,
    streams: HashMap<Arc<str>, VecDeque<StreamPlace>>,
    categories: HashMap<Box<str>, CategoryPlaces>,
    new_streams: u64,
}

/// One message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamPlace {
    pub(super) position: i64,
    pub(super) global_position: i64,
    pub(super) kind: i64,
}

/// One message of a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CategoryPlace {
    pub(super) global_position: i64,
    pub(super) hashes: Hashes,
}

/// The messages of a category.
#[derive(Debug, Default)]
pub(super) struct CategoryPlaces {
    pub(super) places: VecDeque<CategoryPlace>,
    pub(super) new_streams: u64,
}

impl Memtable {
    pub(super) fn new(completion: i64) -> Self {
        Self { completion, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Everything below this global position is in the index; everything from it on is here.
    pub(super) fn floor(&self) -> i64 {
        self.places.front().map_or(i64::MAX, |place| place.global_position)
    }

    /// Global position of the last message that left.
    pub(super) fn completion(&self) -> i64 {
        self.completion
    }

    /// Streams whose first message is here.
    pub(super) fn new_streams(&self) -> u64 {
        self.new_streams
    }

    pub(super) fn push(&mut self, place: Place) {
        self.ids.insert(place.id, place.global_position);
        let stream = self.streams.entry(place.stream.clone()).or_default();
        stream.push_back(place.in_stream());
        let new = u64::from(place.starts_stream);
        let category = name::category(&place.stream);
        let category = match self.categories.get_mut(category) {
            Some(places) => places,
            None => self.categories.entry(category.into()).or_default(),
        };
        category.places.push_back(place.in_category());
        category.new_streams += new;
        self.new_streams += new;
        self.places.push_back(place);
    }

    /// Up to `count` places after the first `skipped`, for the indexer.
    pub(super) fn after(&self, skipped: usize, count: usize) -> impl Iterator<Item = Place> {
        self.places.iter().skip(skipped).take(count).cloned()
    }

    /// Drops up to `count` places at or below `completion`, which the index holds now. Says whether
    /// some are left.
    pub(super) fn forget(&mut self, completion: i64, count: usize) -> bool {
        for _ in 0..count {
            if self.floor() > completion {
                return false;
            }
            let place = self.places.pop_front().expect("the floor is a place's position");
            self.completion = place.global_position;
            self.ids.remove(&place.id);
            if let MapEntry::Occupied(mut stream) = self.streams.entry(place.stream.clone()) {
                stream.get_mut().pop_front();
                if stream.get().is_empty() {
                    stream.remove();
                }
            }
            let new = u64::from(place.starts_stream);
            let category = name::category(&place.stream);
            if let Some(places) = self.categories.get_mut(category) {
                places.places.pop_front();
                places.new_streams -= new;
                if places.places.is_empty() {
                    self.categories.remove(category);
                }
            }
            self.new_streams -= new;
        }
        self.floor() <= completion
    }

    /// The global position of the message with this id.
    pub(super) fn find(&self, id: &Uuid) -> Option<i64> {
        self.ids.get(id).copied()
    }

    /// The messages of a stream, ascending.
    pub(super) fn stream(&self, stream: &str) -> Option<&VecDeque<StreamPlace>> {
        self.streams.get(stream)
    }

    /// The messages of a category, ascending.
    pub(super) fn category(&self, category: &str) -> Option<&CategoryPlaces> {
        self.categories.get(category)
    }

    pub(super) fn categories(&self) -> impl Iterator<Item = (&str, &CategoryPlaces)> {
        self.categories.iter().map(|(name, places)| (&**name, places))
    }

    /// Names of the streams whose first message is here.
    pub(super) fn started_streams(&self) -> impl Iterator<Item = &Arc<str>> {
        self.places.iter().filter(|place| place.starts_stream).map(|place| &place.stream)
    }
}
