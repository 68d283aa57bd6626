//! A session with a MySQL or MariaDB server, which is closed in order when it is dropped.

use std::time::Duration;

use mysql_async::{Conn, DriverError, Error, Opts, prelude::Queryable};

use super::usage;
use crate::fact::{Holder, ServerUsage, Share};

/// The longest close in order: a hung server does not read it.
const GOODBYE: Duration = Duration::from_secs(1);

/// A session that is logged in.
#[derive(Debug)]
pub(in crate::probe) struct Session(Option<Conn>);

impl Session {
    /// Connects and logs in.
    pub async fn open(opts: Opts) -> Result<Self, Error> {
        Ok(Self(Some(Conn::new(opts).await?)))
    }

    /// Lets the server do something that needs no table.
    pub async fn ping(&mut self) -> Result<(), Error> {
        self.conn()?.query_drop("SELECT 1").await
    }

    /// The connections in use, and their limit; None if the server does not show them.
    pub async fn connections(&mut self) -> Result<Option<Share>, Error> {
        let conn = self.conn()?;
        let most: Option<u64> = conn.query_first("SELECT @@global.max_connections").await?;
        let status: Option<(String, u64)> =
            conn.query_first("SHOW GLOBAL STATUS LIKE 'Threads_connected'").await?;
        Ok(most.zip(status).map(|(most, (_, used))| Share { used, most }))
    }

    /// The largest holders of connections, as far as this session's user may see them.
    pub async fn holders(&mut self) -> Result<Vec<Holder>, Error> {
        let clients: Vec<(Option<String>, Option<String>)> = self.conn()?.query(usage::CLIENTS).await?;
        Ok(usage::holders(clients))
    }

    /// The server's report of its connections; None if it does not answer any more.
    pub async fn usage(&mut self) -> Option<ServerUsage> {
        let connections = self.connections().await.ok()?;
        let holders = self.holders().await.unwrap_or_default();
        Some(ServerUsage { connections, memory: None, holders })
    }

    fn conn(&mut self) -> Result<&mut Conn, Error> {
        self.0.as_mut().ok_or(Error::Driver(DriverError::ConnectionClosed))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (Some(conn), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        // Left to itself the library would wait for the answer to a query under way, however long that takes.
        runtime.spawn(async move {
            let _ = tokio::time::timeout(GOODBYE, conn.disconnect()).await;
        });
    }
}
