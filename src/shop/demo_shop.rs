//! A demo shop: an SQLite file with the tables of a Django shop.

use std::{io, num::NonZeroU32, path::Path};

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{platform::private_file::open_private, shop::passwords::django_hash};

/// The password of every customer of the demo shop.
pub const DEMO_PASSWORD: &str = "hero-lim";

/// Django 4.2's default.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();

/// As Django makes them: there is no index on the e-mail address.
const TABLES: [&str; 4] = [
    "CREATE TABLE auth_user (
        id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
        password varchar(128) NOT NULL, last_login datetime NULL,
        is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE, last_name varchar(150) NOT NULL,
        email varchar(254) NOT NULL, is_staff bool NOT NULL, is_active bool NOT NULL,
        date_joined datetime NOT NULL,
        first_name varchar(150) NOT NULL)",
    "CREATE TABLE shop_product (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, name varchar(200) NOT NULL, \
    price integer NOT NULL)",
    "CREATE TABLE shop_order (
        id integer NOT NULL PRIMARY KEY AUTOINCREMENT, user_id integer NOT NULL REFERENCES auth_user (id),
        product_id integer NOT NULL REFERENCES shop_product (id), quantity integer NOT NULL,
        created_at datetime NOT NULL)",
    "CREATE INDEX shop_order_user_id ON shop_order (user_id)",
];

/// Customers with Korean, Japanese and English names. Korean and Japanese shops store the whole name in one
/// field.
const CUSTOMERS: &str = "
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1),
    family(k, ko, ja, en) AS (VALUES
        (0, '김', '佐藤', 'Smith'), (1, '이', '鈴木', 'Jones'), (2, '박', '高橋', 'Taylor'),
        (3, '최', '田中', 'Brown'), (4, '정', '伊藤', 'Wilson'),
        (5, '강', '渡辺', 'Evans'), (6, '조', '山本', 'Walker'), (7, '윤', '中村', 'Young'),
        (8, '장', '小林', 'Green'), (9, '임', '加藤', 'Clarke'),
        (10, '한', '吉田', 'Moore')),
    given(k, ko, ja, en) AS (VALUES
        (0, '영숙', '恵子', 'Anna'), (1, '미경', '由美', 'Emily'), (2, '정희', '明美', 'Grace'),
        (3, '지영', '陽子', 'Sarah'), (4, '은주', '直美', 'Laura'),
        (5, '현정', '健一', 'James'), (6, '영웅', '翔太', 'David'))
    INSERT INTO auth_user (id, password, is_superuser, username, first_name, last_name, email, is_staff,
        is_active, date_joined)
    SELECT i, ?2, 0, printf('fan%05d', i),
        CASE i % 10 WHEN 8 THEN family.ja || given.ja WHEN 9 THEN given.en ELSE family.ko || given.ko END,
        CASE i % 10 WHEN 9 THEN family.en ELSE '' END,
        printf('fan%05d@example.com', i), 0, 1, datetime('2024-01-01', (i % 900) || ' days')
    FROM n JOIN family ON family.k = i % 11 JOIN given ON given.k = i % 7 WHERE i <= ?1 ORDER BY i";

const PRODUCTS: &str = "INSERT INTO shop_product (name, price) VALUES
    ('공식 응원봉', 39000), ('포토북', 52000), ('에코백', 18000),
    ('Tour T-shirt', 35000), ('アクリルスタンド', 15000)";

const ORDERS: &str = "INSERT INTO shop_order (user_id, product_id, quantity, created_at)
    SELECT id, 1 + id % 5, 1 + id % 3, datetime(date_joined, '30 days') FROM auth_user WHERE id % 3 = 0";

/// Why the demo shop could not be created.
#[derive(Debug, thiserror::Error)]
pub enum DemoShopError {
    /// The database failed.
    #[error("cannot create the demo shop's database: {0}")]
    Sql(#[from] sqlx::Error),
    /// The file system failed.
    #[error("cannot create the demo shop's file: {0}")]
    File(#[from] io::Error),
}

/// Creates the shop's database with customers `fan00001@example.com` and so on, whose keys are their numbers
/// and whose password is [`DEMO_PASSWORD`]. Does nothing if the file exists.
///
/// # Errors
/// [`DemoShopError`].
pub async fn create_demo_shop(file: &Path, customers: u32) -> Result<(), DemoShopError> {
    if tokio::fs::try_exists(file).await? {
        return Ok(());
    }
    // Written beside the target and renamed, so that an interrupted process leaves no partial shop.
    let unfinished = file.with_extension("new");
    match tokio::fs::remove_file(&unfinished).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    open_private(&unfinished)?;
    // One hash for all customers: ten thousand hashes would take an hour.
    let hash = tokio::task::spawn_blocking(|| django_hash(DEMO_PASSWORD, "stagedoordemoshop", ITERATIONS))
        .await
        .map_err(io::Error::other)?;
    let mut shop = SqliteConnection::connect_with(
        &SqliteConnectOptions::new()
            .filename(&unfinished)
            .create_if_missing(true),
    )
    .await?;
    let mut change = shop.begin().await?;
    for table in TABLES {
        sqlx::query(table).execute(&mut *change).await?;
    }
    sqlx::query(CUSTOMERS)
        .bind(customers)
        .bind(hash)
        .execute(&mut *change)
        .await?;
    sqlx::query(PRODUCTS).execute(&mut *change).await?;
    sqlx::query(ORDERS).execute(&mut *change).await?;
    change.commit().await?;
    shop.close().await?;
    tokio::fs::rename(&unfinished, file).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demo_shop_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("shop.db");
        create_demo_shop(&file, 10_000).await.unwrap();
        create_demo_shop(&file, 5).await.unwrap();
        assert!(!dir.path().join("shop.new").exists());
        let mut shop = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(&file))
            .await
            .unwrap();
        let (customers, emails, hashes, orders): (i64, i64, i64, i64) = sqlx::query_as(
            "SELECT count(*), count(DISTINCT email), count(DISTINCT password), (SELECT count(*) FROM \
            shop_order) FROM auth_user WHERE first_name <> ''",
        )
        .fetch_one(&mut shop)
        .await
        .unwrap();
        assert_eq!((customers, emails, hashes, orders), (10_000, 10_000, 1, 3_333));
        let last: (String, String) =
            sqlx::query_as("SELECT email, first_name FROM auth_user WHERE id = 10000")
                .fetch_one(&mut shop)
                .await
                .unwrap();
        assert_eq!(last.0, "fan10000@example.com");
    }
}
