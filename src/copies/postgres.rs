//! A copy in a PostgreSQL database: one row an object, one row a head, in the schema `skillhook_copies`.

use bytes::Bytes;
use deadpool_postgres::{Client, Pool};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::{CloudCopy, OBJECT_BYTES_MAX, ObjectId, Stored, Swap, Version, away, damaged};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;
use crate::postgres::{self, Step};

const SCHEMA: &str = "skillhook_copies";
const STEPS: &[Step] = &["
    CREATE TABLE skillhook_copies.object (
        copy text NOT NULL,
        id bytea NOT NULL CHECK (length(id) = 32),
        bytes bytea NOT NULL,
        stored_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (copy, id)
    );
    ALTER TABLE skillhook_copies.object ALTER COLUMN bytes SET STORAGE EXTERNAL;
    CREATE TABLE skillhook_copies.head (
        copy text PRIMARY KEY,
        bytes bytea NOT NULL,
        moved_at timestamptz NOT NULL DEFAULT now()
    );
"];
/// Connections at once: one pushes, one looks.
const CONNECTIONS: usize = 2;

pub(super) struct Postgres {
    pool: Pool,
    copy: String,
    prepared: OnceCell<()>,
}

impl Postgres {
    pub(super) fn new(url: &str, copy: &str) -> Result<Self> {
        Ok(Self { pool: postgres::pool(url, CONNECTIONS)?, copy: copy.to_owned(), prepared: OnceCell::new() })
    }

    async fn client(&self) -> Result<Client> {
        let mut client = self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => trouble(error),
            error => away("the database of the copy does not answer", error),
        })?;
        let prepare = async {
            postgres::upgrade(&mut client, SCHEMA, STEPS, &trouble).await?;
            // A commit that was answered must be on disk, whatever the server's default is.
            Ok::<(), Error>(())
        };
        self.prepared.get_or_try_init(|| prepare).await?;
        client.batch_execute("SET synchronous_commit = on").await.map_err(trouble)?;
        Ok(client)
    }
}

impl CloudCopy for Postgres {
    fn put(&self, id: ObjectId, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let put = "INSERT INTO skillhook_copies.object (copy, id, bytes) VALUES ($1, $2, $3)
                       ON CONFLICT (copy, id) DO UPDATE SET stored_at = now(), bytes = excluded.bytes";
            let client = self.client().await?;
            let (id, bytes) = (id.as_bytes().as_slice(), bytes.as_ref());
            client.execute(put, &[&self.copy, &id, &bytes]).await.map_err(trouble)?;
            Ok(())
        })
    }

    fn get(&self, id: ObjectId) -> BoxFuture<'_, Result<Option<Bytes>>> {
        Box::pin(async move {
            let get = "SELECT bytes FROM skillhook_copies.object WHERE copy = $1 AND id = $2 AND length(bytes) <= $3";
            let bytes_max = i32::try_from(OBJECT_BYTES_MAX + 4096).unwrap_or(i32::MAX);
            let client = self.client().await?;
            let row = client.query_opt(get, &[&self.copy, &id.as_bytes().as_slice(), &bytes_max]).await;
            Ok(row.map_err(trouble)?.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Version)>>> {
        Box::pin(async move {
            let get = "SELECT bytes FROM skillhook_copies.head WHERE copy = $1";
            let row = self.client().await?.query_opt(get, &[&self.copy]).await.map_err(trouble)?;
            let bytes = row.map(|row| row.get::<_, Vec<u8>>(0));
            Ok(bytes.map(|bytes| (Bytes::from(bytes.clone()), Version(hex::encode(&bytes)))))
        })
    }

    fn swap(&self, expected: Option<Version>, head: Bytes) -> BoxFuture<'_, Result<Swap>> {
        Box::pin(async move {
            let client = self.client().await?;
            let head = head.as_ref();
            let moved = match expected {
                None => {
                    let insert =
                        "INSERT INTO skillhook_copies.head (copy, bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    client.execute(insert, &[&self.copy, &head]).await
                }
                Some(Version(expected)) => {
                    let update = "UPDATE skillhook_copies.head SET bytes = $2, moved_at = now()
                                  WHERE copy = $1 AND bytes = $3";
                    let expected =
                        hex::decode(expected).map_err(|error| Error::new(Code::Bug, "no version").detail(error))?;
                    client.execute(update, &[&self.copy, &head, &expected]).await
                }
            };
            Ok(if moved.map_err(trouble)? == 1 { Swap::Moved } else { Swap::Lost })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Stored>>> {
        Box::pin(async move {
            let list = "SELECT id, stored_at FROM skillhook_copies.object WHERE copy = $1";
            let rows = self.client().await?.query(list, &[&self.copy]).await.map_err(trouble)?;
            let stored = |row: &tokio_postgres::Row| {
                let id = Digest::parse(&hex::encode(row.get::<_, &[u8]>(0))).map_err(damaged)?;
                Ok(Stored { id, at: row.get(1) })
            };
            rows.iter().map(stored).collect()
        })
    }

    fn remove(&self, id: ObjectId, before: Timestamp) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let remove = "DELETE FROM skillhook_copies.object WHERE copy = $1 AND id = $2 AND stored_at < $3";
            let client = self.client().await?;
            client.execute(remove, &[&self.copy, &id.as_bytes().as_slice(), &before]).await.map_err(trouble)?;
            Ok(())
        })
    }
}

fn trouble(error: tokio_postgres::Error) -> Error {
    away("the database of the copy does not answer as it should", postgres::said(&error))
}
