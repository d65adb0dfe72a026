//! A compact form for rows that are written often: fields one after the other, without names.
//!
//! What the fields are is fixed by the row's version; a change of fields is a new version.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::codec;
use crate::error::Result;

/// Writes fields.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn flag(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    pub fn time(&mut self, value: Timestamp) {
        self.0.extend_from_slice(&value.as_second().to_le_bytes());
        self.0.extend_from_slice(&value.subsec_nanosecond().to_le_bytes());
    }

    /// Up to 4 GiB, which rows never have.
    pub fn text(&mut self, value: &str) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value.as_bytes());
    }

    pub fn id(&mut self, value: Option<Uuid>) {
        self.flag(value.is_some());
        self.0.extend(value.iter().flat_map(Uuid::as_bytes));
    }

    /// What is seldom there.
    pub fn json<T: Serialize>(&mut self, value: Option<&T>) -> Result<()> {
        let json = value.map(codec::to_json).transpose()?.unwrap_or_default();
        self.u32(u32::try_from(json.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(&json);
        Ok(())
    }
}

/// Reads fields in the order in which they were written.
#[derive(Debug)]
pub struct Rest<'a>(pub &'a [u8]);

impl<'a> Rest<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn flag(&mut self) -> Result<bool> {
        self.byte().map(|byte| byte != 0)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| codec::unreadable("it is too short"))?;
        self.0 = rest;
        Ok(*value)
    }

    pub fn time(&mut self) -> Result<Timestamp> {
        let second = self.array().map(i64::from_le_bytes)?;
        let nanosecond = self.array().map(i32::from_le_bytes)?;
        Timestamp::new(second, nanosecond).map_err(codec::unreadable)
    }

    pub fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.counted()?).map_err(codec::unreadable)
    }

    pub fn id(&mut self) -> Result<Option<Uuid>> {
        if self.flag()? { self.array().map(|bytes| Some(Uuid::from_bytes(bytes))) } else { Ok(None) }
    }

    pub fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.counted()? {
            [] => Ok(None),
            json => codec::from_json(json).map(Some),
        }
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let length = self.u32()? as usize;
        let (value, rest) = self.0.split_at_checked(length).ok_or_else(|| codec::unreadable("it is too short"))?;
        self.0 = rest;
        Ok(value)
    }
}
