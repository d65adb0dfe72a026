//! A copy in S3-compatible storage.
//!
//! `PREFIX/objects/ab/cdef…` and `PREFIX/head`. The head moves by a conditional put (`If-None-Match`, `If-Match` on its
//! ETag), which the storage must know: Amazon S3, R2, MinIO and others do. Credentials and endpoint are the `AWS_…`
//! variables that its other tools read.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
};

use super::{CloudCopy, HEAD_BYTES_MAX, OBJECT_BYTES_MAX, ObjectId, Stored, Swap, Version, away};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;

/// Longest call, in seconds.
const CALL_SECONDS: u64 = 60;
/// Retries of one call; beyond them the copier's own backoff begins.
const RETRIES: usize = 2;

pub(super) struct S3 {
    store: AmazonS3,
    prefix: String,
}

impl S3 {
    pub(super) fn new(bucket: &str, prefix: &str, environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let endpoint = environment.get("AWS_ENDPOINT_URL_S3").or_else(|| environment.get("AWS_ENDPOINT_URL"));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        // Whoever writes `http://` means it.
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = ClientOptions::new()
            .with_allow_http(plain)
            .with_timeout(Duration::from_secs(CALL_SECONDS))
            .with_connect_timeout(Duration::from_secs(10));
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: Duration::from_secs(CALL_SECONDS),
            ..RetryConfig::default()
        };
        let store = builder
            .with_bucket_name(bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(client)
            .with_retry(retry)
            .build()
            .map_err(|error| {
                Error::new(Code::SettingInvalid, format!("the storage for the copy in `{bucket}` cannot be set up"))
                    .hint("set AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL for other storage than Amazon's")
                    .detail(error)
            })?;
        Ok(Self { store, prefix: prefix.to_owned() })
    }

    fn path(&self, name: &str) -> Path {
        Path::from(if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) })
    }

    fn object(&self, id: ObjectId) -> Path {
        let name = id.to_string();
        self.path(&format!("objects/{}/{}", &name[..2], &name[2..]))
    }

    async fn read(&self, path: Path, bytes_max: usize) -> Result<Option<(Bytes, Option<String>)>> {
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(trouble(error)),
        };
        if found.meta.size > bytes_max as u64 {
            return Err(super::damaged(format!("`{path}` is larger than it may be")));
        }
        let e_tag = found.meta.e_tag.clone();
        Ok(Some((found.bytes().await.map_err(trouble)?, e_tag)))
    }
}

impl CloudCopy for S3 {
    fn put(&self, id: ObjectId, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(
            async move { self.store.put(&self.object(id), PutPayload::from(bytes)).await.map(|_| ()).map_err(trouble) },
        )
    }

    fn get(&self, id: ObjectId) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move { Ok(self.read(self.object(id), OBJECT_BYTES_MAX + 4096).await?.map(|(bytes, _)| bytes)) })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Version)>>> {
        Box::pin(async move {
            let Some((bytes, e_tag)) = self.read(self.path("head"), HEAD_BYTES_MAX).await? else { return Ok(None) };
            let e_tag = e_tag.ok_or_else(|| {
                Error::new(Code::SettingInvalid, "the storage of the copy gives no ETag: its head cannot be guarded")
            })?;
            Ok(Some((bytes, Version(e_tag))))
        })
    }

    fn swap(&self, expected: Option<Version>, head: Bytes) -> BoxFuture<'_, Result<Swap>> {
        Box::pin(async move {
            let mode = match expected {
                None => PutMode::Create,
                Some(Version(e_tag)) => PutMode::Update(UpdateVersion { e_tag: Some(e_tag), version: None }),
            };
            let options = PutOptions { mode, ..PutOptions::default() };
            match self.store.put_opts(&self.path("head"), PutPayload::from(head), options).await {
                Ok(_) => Ok(Swap::Moved),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. }
                    | object_store::Error::NotFound { .. },
                ) => Ok(Swap::Lost),
                Err(error) => Err(trouble(error)),
            }
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Stored>>> {
        Box::pin(async move {
            let prefix = self.path("objects");
            let mut listing = self.store.list(Some(&prefix));
            let mut found = Vec::new();
            while let Some(meta) = listing.try_next().await.map_err(trouble)? {
                let location = meta.location.to_string();
                let parts: Vec<&str> = location.rsplitn(3, '/').collect();
                let name = format!("{}{}", parts.get(1).unwrap_or(&""), parts.first().unwrap_or(&""));
                // Something else that lies there is not ours to judge.
                let Ok(id) = Digest::parse(&name) else { continue };
                found.push(Stored { id, at: timestamp(meta.last_modified.timestamp()) });
            }
            Ok(found)
        })
    }

    fn remove(&self, id: ObjectId, before: Timestamp) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let path = self.object(id);
            let meta = match self.store.head(&path).await {
                Ok(meta) => meta,
                Err(object_store::Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(trouble(error)),
            };
            if timestamp(meta.last_modified.timestamp()) >= before {
                return Ok(());
            }
            self.store.delete(&path).await.map_err(trouble)
        })
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn trouble(error: object_store::Error) -> Error {
    match error {
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            away("the storage of the copy refuses our credentials", error)
        }
        object_store::Error::NotFound { .. } => away("the bucket of the copy does not exist", error),
        error => away("the storage of the copy does not answer as it should", error),
    }
}
