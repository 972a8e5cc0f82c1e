//! Requests to be told, beside the journal's tables.

use async_trait::async_trait;

use super::journal::{PostgresJournal, with_timeout};
use crate::waiting_room::journal::{
    notices::{CallNotice, NoticeStore},
    port::JournalError,
};

fn numbers(arrivals: &[u32]) -> Vec<i64> {
    arrivals.iter().map(|&arrival| arrival.into()).collect()
}

#[async_trait]
impl NoticeStore for PostgresJournal {
    async fn keep(&self, notices: &[CallNotice]) -> Result<(), JournalError> {
        let arrivals: Vec<i64> = notices.iter().map(|notice| notice.arrival.into()).collect();
        let customers: Vec<&[u8]> = notices.iter().map(|notice| notice.customer.as_slice()).collect();
        let keep = sqlx::query(
            "INSERT INTO call_notice (sale, arrival_number, customer)
             SELECT $1, * FROM unnest($2::bigint[], $3::bytea[]) ON CONFLICT DO NOTHING",
        )
        .bind(self.sale().as_str())
        .bind(arrivals)
        .bind(customers);
        with_timeout(keep.execute(self.pool())).await.map(drop)
    }

    async fn of_arrivals(&self, arrivals: &[u32]) -> Result<Vec<CallNotice>, JournalError> {
        let rows = sqlx::query_as(
            "SELECT arrival_number, customer FROM call_notice WHERE sale = $1 AND arrival_number = ANY($2)",
        )
        .bind(self.sale().as_str())
        .bind(numbers(arrivals))
        .fetch_all(self.pool());
        let rows: Vec<(i64, Vec<u8>)> = with_timeout(rows).await?;
        let notices = rows.into_iter().filter_map(|(arrival, customer)| {
            let arrival = u32::try_from(arrival).ok()?;
            Some(CallNotice { arrival, customer })
        });
        Ok(notices.collect())
    }

    async fn remove(&self, arrivals: &[u32]) -> Result<(), JournalError> {
        let remove = sqlx::query("DELETE FROM call_notice WHERE sale = $1 AND arrival_number = ANY($2)")
            .bind(self.sale().as_str())
            .bind(numbers(arrivals));
        with_timeout(remove.execute(self.pool())).await.map(drop)
    }

    async fn remove_all(&self) -> Result<(), JournalError> {
        let remove = sqlx::query("DELETE FROM call_notice WHERE sale = $1").bind(self.sale().as_str());
        with_timeout(remove.execute(self.pool())).await.map(drop)
    }
}
