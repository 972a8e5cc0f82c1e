//! Requests to be told, in the journal's file.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{SqliteJournal, with_timeout};
use crate::waiting_room::journal::{
    notices::{CallNotice, NoticeStore},
    port::JournalError,
};

fn json(arrivals: &[u32]) -> String {
    serde_json::to_string(arrivals).expect("numbers are JSON")
}

impl SqliteJournal {
    async fn keep_each(&self, db: &mut SqliteConnection, notices: &[CallNotice]) -> Result<(), sqlx::Error> {
        for notice in notices {
            sqlx::query(
                "INSERT INTO call_notice (sale, arrival_number, customer) VALUES (?, ?, ?) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(self.sale.as_str())
            .bind(notice.arrival)
            .bind(&notice.customer)
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

#[async_trait]
impl NoticeStore for SqliteJournal {
    async fn keep(&self, notices: &[CallNotice]) -> Result<(), JournalError> {
        with_timeout(async {
            let mut transaction = self.writer.begin("BEGIN IMMEDIATE").await?;
            match self.keep_each(&mut transaction, notices).await {
                Ok(()) => transaction.commit().await,
                Err(error) => Err(transaction.roll_back(error).await),
            }
        })
        .await
    }

    async fn of_arrivals(&self, arrivals: &[u32]) -> Result<Vec<CallNotice>, JournalError> {
        let rows = sqlx::query_as(
            "SELECT arrival_number, customer FROM call_notice \
             WHERE sale = ? AND arrival_number IN (SELECT value FROM json_each(?))",
        )
        .bind(self.sale.as_str())
        .bind(json(arrivals))
        .fetch_all(&self.reader);
        let rows: Vec<(u32, Vec<u8>)> = with_timeout(rows).await?;
        Ok(rows
            .into_iter()
            .map(|(arrival, customer)| CallNotice { arrival, customer })
            .collect())
    }

    async fn remove(&self, arrivals: &[u32]) -> Result<(), JournalError> {
        let remove = sqlx::query(
            "DELETE FROM call_notice WHERE sale = ? AND arrival_number IN (SELECT value FROM json_each(?))",
        )
        .bind(self.sale.as_str())
        .bind(json(arrivals));
        with_timeout(async {
            let mut connection = self.writer.connection().await?;
            let removed = remove.execute(&mut *connection).await;
            connection.finish(removed.map(drop)).await
        })
        .await
    }

    async fn remove_all(&self) -> Result<(), JournalError> {
        let remove = sqlx::query("DELETE FROM call_notice WHERE sale = ?").bind(self.sale.as_str());
        with_timeout(async {
            let mut connection = self.writer.connection().await?;
            let removed = remove.execute(&mut *connection).await;
            connection.finish(removed.map(drop)).await
        })
        .await
    }
}
