//! Reading lists from peers: bounded before anything is allocated. Knows nothing of what is listed.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// How many more things a body may still hold: no more than its bytes could, nor than is allowed.
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new(things: usize) -> Self {
        Self(Cell::new(things))
    }

    /// Takes `things` from what is left.
    pub(crate) fn take<E: Error>(&self, things: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(things);
        self.0
            .set(left.ok_or_else(|| E::custom("more values than it has bytes, or than allowed"))?);
        Ok(())
    }
}

/// The next element of a list that must have one.
pub(crate) fn next<'de, A: SeqAccess<'de>, S: DeserializeSeed<'de>>(
    seq: &mut A,
    seed: S,
) -> Result<S::Value, A::Error> {
    seq.next_element_seed(seed)?.ok_or_else(|| A::Error::custom("it ends too early"))
}

/// The next element of a list that must have one, of a type that reads itself.
pub(crate) fn next_plain<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    seq: &mut A,
) -> Result<T, A::Error> {
    next(seq, PhantomData)
}

/// A list of at most `limit` elements, each of which takes one from the budget. Nil is the empty
/// list, and the only way to write it.
pub(crate) struct List<'a, T> {
    budget: &'a Budget,
    limit: usize,
    element: PhantomData<T>,
}

impl<'a, T> List<'a, T> {
    pub(crate) fn new(budget: &'a Budget, limit: usize) -> Self {
        Self { budget, limit, element: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nil or a list")
    }

    fn visit_none<E>(self) -> Result<Vec<T>, E> {
        Ok(Vec::new())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let length = seq.size_hint().unwrap_or(0);
        if length == 0 || length > self.limit {
            return Err(A::Error::custom("a list is empty or too long"));
        }
        self.budget.take(length)?;
        let mut list = Vec::with_capacity(length);
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(list)
    }
}

/// Reads a list of at most `LIMIT` elements, growing only as they arrive.
pub(crate) fn bounded<'de, const LIMIT: usize, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Bounded<const LIMIT: usize, T>(PhantomData<T>);

    impl<'de, const LIMIT: usize, T: Deserialize<'de>> Visitor<'de> for Bounded<LIMIT, T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {LIMIT}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                if list.len() == LIMIT {
                    return Err(A::Error::invalid_length(LIMIT + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<LIMIT, T>(PhantomData))
}
