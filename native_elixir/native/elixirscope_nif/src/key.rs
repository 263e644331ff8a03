//! From a term to a limiter's key, without touching the caller's heap.
//!
//! A binary is hashed as its raw bytes, so that C, Python and the BEAM meet in one bucket; what a limit with a name measures
//! begins with that name. Any other term is
//! walked, and what is hashed is a canonical, tagged form: it depends on the term's value only, not on atom
//! numbers or on the order in which a map happens to be stored, so that it is the same in every node. The form
//! is injective: each piece begins with its type and, in 24 bits, its length. What names something (pids, references,
//! ports, atoms beyond Latin-1) goes in as its external term format.
//!
//! A key's length is bounded, so that a NIF stays short whatever it is given. A term whose size cannot be seen from
//! here (big integers, functions, bit strings) or that is nested deeper than [`MAX_DEPTH`] is therefore
//! [`Unfit::Opaque`]: the caller writes it as a binary first, which the VM does piece by piece.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use elixirscope::limiter::{Key, KeyHasher, Limiter};
use rustler::types::map::MapIterator;
use rustler::{Binary, Term, TermType, sys};

/// Most bytes of a key: those of its binaries and atoms, and one for each piece.
pub const MAX_BYTES: usize = 65_536;

/// Deepest nesting that is walked.
const MAX_DEPTH: u32 = 64;

/// An atom has at most 255 characters, and the text of one ends with a zero.
const ATOM_BYTES: usize = 256;

/// Pieces are short and a hasher's call is not: they are gathered first.
const GATHERED: usize = 128;

/// An atom of so many bytes is kept for the next key.
const ATOM_KEPT: usize = 32;

const ATOM: u8 = 1;
const INTEGER: u8 = 2;
const FLOAT: u8 = 3;
const BINARY: u8 = 4;
const TUPLE: u8 = 5;
const LIST: u8 = 6;
const LIST_END: u8 = 7;
const MAP: u8 = 8;
const EXTERNAL: u8 = 9;
const LIMIT: u8 = 10;

/// Why a term is no key.
#[derive(Debug)]
pub enum Unfit {
    /// It is longer than [`MAX_BYTES`].
    TooLarge,
    /// Nobody can say here how long it is.
    Opaque,
}

/// The key of `term` in `limiter`.
#[inline]
pub fn key(limiter: &Limiter, term: Term) -> Result<Key, Unfit> {
    if let Some(binary) = binary(term) {
        return if binary.len() <= MAX_BYTES { Ok(limiter.key(&binary)) } else { Err(Unfit::TooLarge) };
    }
    let mut walk = Walk::new(limiter, MAX_BYTES);
    walk.term(term, 0)?;
    Ok(walk.key())
}

/// Keys one after the other, all measured by the limit of this name, or by rules. It keeps what can be used again.
pub struct Keys<'l> {
    walk: Walk<'l>,
    limit: Option<&'l [u8]>,
}

impl<'l> Keys<'l> {
    #[inline]
    pub fn new(limiter: &'l Limiter, limit: Option<&'l [u8]>) -> Self {
        Self { walk: Walk::new(limiter, MAX_BYTES), limit }
    }

    /// The key of a term, and its length. No key of a limit equals one of another limit or of a rule.
    #[inline]
    pub fn next(&mut self, term: Term) -> Result<(Key, usize), Unfit> {
        let kind = term.get_type();
        let name = match (self.limit, kind) {
            (None, TermType::Binary) => match binary(term) {
                Some(bytes) if bytes.len() <= MAX_BYTES => {
                    return Ok((self.walk.limiter.key(&bytes), bytes.len()));
                }
                Some(_) => return Err(Unfit::TooLarge),
                None => return Err(Unfit::Opaque),
            },
            (None, _) => None,
            (Some(name), _) => Some(name),
        };
        self.walk.begin(MAX_BYTES + name.map_or(0, |name| name.len() + 1));
        if let Some(name) = name {
            self.walk.bytes(LIMIT, name)?;
        }
        self.walk.typed(kind, term, 0)?;
        Ok((self.walk.key(), MAX_BYTES.saturating_sub(self.walk.left)))
    }
}

#[inline]
fn binary(term: Term) -> Option<Binary> {
    term.is_binary().then(|| Binary::from_term(term).ok()).flatten()
}

struct Walk<'l> {
    limiter: &'l Limiter,
    hasher: KeyHasher,
    gathered: [u8; GATHERED],
    length: usize,
    left: usize,
    is_flushed: bool,
    /// The atom that was read last: it is often the next key's too, and reading it takes longer than to hash it. An atom's
    /// term is the same as long as the VM lives.
    atom: Option<sys::ErlNifTerm>,
    text: [u8; ATOM_KEPT],
    text_length: usize,
}

impl<'l> Walk<'l> {
    #[inline]
    fn new(limiter: &'l Limiter, left: usize) -> Self {
        Self {
            limiter,
            hasher: limiter.key_hasher(),
            gathered: [0; GATHERED],
            length: 0,
            left,
            is_flushed: false,
            atom: None,
            text: [0; ATOM_KEPT],
            text_length: 0,
        }
    }

    /// Another key.
    #[inline]
    fn begin(&mut self, left: usize) {
        if self.is_flushed {
            self.hasher = self.limiter.key_hasher();
            self.is_flushed = false;
        }
        self.length = 0;
        self.left = left;
    }

    /// The key of all pieces.
    #[inline]
    fn key(&self) -> Key {
        self.hasher.finish_with(&self.gathered[..self.length])
    }

    fn term(&mut self, term: Term, depth: u32) -> Result<(), Unfit> {
        if depth > MAX_DEPTH {
            return Err(Unfit::Opaque);
        }
        self.typed(term.get_type(), term, depth)
    }

    fn typed(&mut self, kind: TermType, term: Term, depth: u32) -> Result<(), Unfit> {
        match kind {
            TermType::Atom => self.atom(term),
            TermType::Integer => match term.decode::<i64>() {
                Ok(number) => self.number(INTEGER, number as u64),
                Err(_) => Err(Unfit::Opaque),
            },
            TermType::Float => match term.decode::<f64>() {
                // Both zeros are the same term.
                Ok(number) => self.number(FLOAT, if number == 0.0 { 0 } else { number.to_bits() }),
                Err(_) => Err(Unfit::Opaque),
            },
            TermType::Tuple => self.tuple(term, depth),
            TermType::List => self.list(term, depth),
            TermType::Map => self.map(term, depth),
            TermType::Pid | TermType::Port | TermType::Ref => self.external(term),
            _ => match binary(term) {
                Some(binary) => self.bytes(BINARY, &binary),
                None => Err(Unfit::Opaque),
            },
        }
    }

    fn atom(&mut self, term: Term) -> Result<(), Unfit> {
        if self.atom == Some(term.as_c_arg()) {
            let (text, length) = (self.text, self.text_length);
            return self.bytes(ATOM, &text[..length]);
        }
        let mut text = [MaybeUninit::<u8>::uninit(); ATOM_BYTES];
        let encoding = sys::ErlNifCharEncoding::ERL_NIF_LATIN1;
        // SAFETY: the buffer is writable for the length that is told, and the term lives as long as its
        // environment, which the borrow keeps.
        let written = unsafe {
            let buffer = text.as_mut_ptr().cast();
            sys::enif_get_atom(
                term.get_env().as_c_arg(),
                term.as_c_arg(),
                buffer,
                ATOM_BYTES as u32,
                encoding,
            )
        };
        if written <= 0 {
            // An atom with characters beyond Latin-1.
            return self.external(term);
        }
        // SAFETY: that many bytes were written, the last of them the closing zero.
        let text = unsafe { std::slice::from_raw_parts(text.as_ptr().cast::<u8>(), written as usize - 1) };
        if text.len() <= ATOM_KEPT {
            self.text[..text.len()].copy_from_slice(text);
            self.text_length = text.len();
            self.atom = Some(term.as_c_arg());
        }
        self.bytes(ATOM, text)
    }

    fn tuple(&mut self, term: Term, depth: u32) -> Result<(), Unfit> {
        let env = term.get_env();
        let mut arity = 0;
        let mut elements = std::ptr::null();
        // SAFETY: both pointers are valid for a write.
        let is_tuple =
            unsafe { sys::enif_get_tuple(env.as_c_arg(), term.as_c_arg(), &mut arity, &mut elements) };
        debug_assert_ne!(is_tuple, 0);
        self.head(TUPLE, arity as usize)?;
        for index in 0..arity as usize {
            // SAFETY: the array has `arity` terms, which live as long as the tuple's environment.
            let element = unsafe { Term::new(env, *elements.add(index)) };
            self.term(element, depth + 1)?;
        }
        Ok(())
    }

    fn list(&mut self, term: Term, depth: u32) -> Result<(), Unfit> {
        self.head(LIST, 0)?;
        let mut rest = term;
        while let Ok((head, tail)) = rest.list_get_cell() {
            self.term(head, depth + 1)?;
            rest = tail;
        }
        if rest.is_empty_list() { self.head(LIST_END, 0) } else { self.term(rest, depth + 1) }
    }

    /// A map has no order: its pairs are hashed one by one and added up.
    fn map(&mut self, term: Term, depth: u32) -> Result<(), Unfit> {
        let (mut pairs, mut sum) = (0, 0u64);
        for (name, value) in MapIterator::new(term).into_iter().flatten() {
            let mut pair = Walk::new(self.limiter, self.left);
            pair.term(name, depth + 1)?;
            pair.term(value, depth + 1)?;
            self.left = pair.left;
            sum = sum.wrapping_add(pair.key().to_raw());
            pairs += 1;
        }
        self.head(MAP, pairs)?;
        self.write(&sum.to_le_bytes());
        Ok(())
    }

    /// For terms that the VM keeps short.
    fn external(&mut self, term: Term) -> Result<(), Unfit> {
        self.bytes(EXTERNAL, term.to_binary().as_slice())
    }

    #[inline]
    fn number(&mut self, tag: u8, number: u64) -> Result<(), Unfit> {
        self.head(tag, size_of::<u64>())?;
        self.write(&number.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn bytes(&mut self, tag: u8, bytes: &[u8]) -> Result<(), Unfit> {
        self.spend(bytes.len())?;
        self.head(tag, bytes.len())?;
        self.write(bytes);
        Ok(())
    }

    /// The beginning of each piece. No tuple is longer than 2^24 - 1, and nothing else than [`MAX_BYTES`].
    #[inline]
    fn head(&mut self, tag: u8, length: usize) -> Result<(), Unfit> {
        self.spend(1)?;
        self.write(&((length as u32) << 8 | u32::from(tag)).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        if bytes.len() > GATHERED - self.length {
            self.flush();
            if bytes.len() > GATHERED {
                return self.hasher.write(bytes);
            }
        }
        self.gathered[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    #[inline]
    fn flush(&mut self) {
        self.hasher.write(&self.gathered[..self.length]);
        self.length = 0;
        self.is_flushed = true;
    }

    #[inline]
    fn spend(&mut self, bytes: usize) -> Result<(), Unfit> {
        self.left = self.left.checked_sub(bytes).ok_or(Unfit::TooLarge)?;
        Ok(())
    }
}
