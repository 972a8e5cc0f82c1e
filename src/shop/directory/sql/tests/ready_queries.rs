//! The files of `config/shops` with the systems that they are for.

use super::*;

/// A file of `config/shops`, the tables of the system that it is for, and a customer there.
struct ReadyQuery {
    file: &'static str,
    tables: &'static str,
    grants: &'static str,
    logins: &'static [(&'static str, &'static str)],
}

const DJANGO: ReadyQuery = ReadyQuery {
    file: include_str!("../../../../../config/shops/django-oscar.toml"),
    tables: "CREATE TABLE auth_user (id serial PRIMARY KEY, password varchar(128) NOT NULL,
            last_login timestamptz, is_superuser boolean NOT NULL, username varchar(150) NOT NULL UNIQUE,
            first_name varchar(150) NOT NULL, last_name varchar(150) NOT NULL, email varchar(254) NOT NULL,
            is_staff boolean NOT NULL, is_active boolean NOT NULL, date_joined timestamptz NOT NULL);
        INSERT INTO auth_user VALUES (7, 'pbkdf2_sha256$...', NULL, false, 'kim', 'Su', 'Kim',
            'Kim@Example.com', false, true, now())",
    grants: "CREATE ROLE stagedoor LOGIN;
        GRANT SELECT (id, first_name, last_name, email, password, is_active) ON auth_user TO stagedoor",
    logins: &[("kim@example.com", "7"), ("KIM@example.com", "7")],
};
const SPRING_SECURITY: ReadyQuery = ReadyQuery {
    file: include_str!("../../../../../config/shops/spring-security.toml"),
    tables: "CREATE TABLE users (username varchar(50) NOT NULL PRIMARY KEY, password varchar(500) NOT NULL,
            enabled boolean NOT NULL);
        INSERT INTO users VALUES ('kim', '{bcrypt}...', true)",
    grants: "CREATE ROLE stagedoor LOGIN; GRANT SELECT (username, password, enabled) ON users TO stagedoor",
    logins: &[("kim", "kim"), ("Kim", "kim")],
};
const WOOCOMMERCE: ReadyQuery = ReadyQuery {
    file: include_str!("../../../../../config/shops/woocommerce.toml"),
    tables: "CREATE TABLE wp_users (ID bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
            user_login varchar(60) NOT NULL DEFAULT '', user_pass varchar(255) NOT NULL DEFAULT '',
            user_nicename varchar(50) NOT NULL DEFAULT '', user_email varchar(100) NOT NULL DEFAULT '',
            user_url varchar(100) NOT NULL DEFAULT '', user_registered datetime NOT NULL DEFAULT '2020-01-01',
            user_activation_key varchar(255) NOT NULL DEFAULT '', user_status int NOT NULL DEFAULT 0,
            display_name varchar(250) NOT NULL DEFAULT '', KEY user_login_key (user_login),
            KEY user_nicename (user_nicename), KEY user_email (user_email)) COLLATE utf8mb4_unicode_520_ci;
        INSERT INTO wp_users (ID, user_login, user_pass, user_email, display_name)
            VALUES (7, 'kim', '$wp$2y$...', 'Kim@Example.com', 'Kim Su'),
                (8, 'lee@example.com', '$P$...', 'lee@example.com', 'Lee'),
                (9, 'kim@example.com', '$P$...', 'other@example.com', 'Not Kim')",
    grants: "CREATE USER stagedoor;
        GRANT SELECT (ID, user_login, user_email, user_pass, display_name) ON shop.wp_users TO stagedoor",
    logins: &[
        ("kim", "7"),
        ("kim@example.com", "7"),
        ("KIM@EXAMPLE.COM", "7"),
        ("lee@example.com", "8"),
    ],
};
const LARAVEL: ReadyQuery = ReadyQuery {
    file: include_str!("../../../../../config/shops/laravel.toml"),
    tables: "CREATE TABLE users (id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
            name varchar(255) NOT NULL, email varchar(255) NOT NULL UNIQUE, email_verified_at timestamp NULL,
            password varchar(255) NOT NULL, remember_token varchar(100) NULL, created_at timestamp NULL,
            updated_at timestamp NULL) COLLATE utf8mb4_unicode_ci;
        INSERT INTO users (id, name, email, password) VALUES (7, 'Kim Su', 'Kim@Example.com', '$2y$...')",
    grants: "CREATE USER stagedoor; GRANT SELECT (id, name, email, password) ON shop.users TO stagedoor",
    logins: &[("kim@example.com", "7"), ("Kim@Example.com", "7")],
};

impl ReadyQuery {
    async fn check(&self, world: &World) {
        world.run(self.tables).await;
        match world {
            World::MariaDb(server) => server.run("mysql", self.grants).await.unwrap(),
            _ => world.run(self.grants).await,
        }
        let file: toml::Table = self.file.parse().unwrap();
        let text = |key: &str| file["shop"][key].as_str().unwrap().to_owned();
        let tables = file["shop"]["tables"].as_array().unwrap();
        let directory = open_directory(DirectoryConfig {
            customer_query: text("customer_query"),
            customer_query_any_case: text("customer_query_any_case"),
            customer_by_id_query: text("customer_by_id_query"),
            customer_sample_query: text("customer_sample_query"),
            tables: tables.iter().map(|it| it.as_str().unwrap().to_owned()).collect(),
            ..world.config("stagedoor")
        });
        directory.inspect().await.unwrap();
        let findings = directory.examine_queries().await;
        let is_usable = |finding: &QueryFinding| matches!(finding, QueryFinding::Usable { .. });
        assert!(findings.iter().all(is_usable), "{findings:?}");
        assert!(!directory.sample(10).await.unwrap().unwrap().is_empty());
        for (login, key) in self.logins {
            let found = directory.find(&Wanted::login(login), Search::Exact).await;
            let customer = found.unwrap().unwrap_or_else(|| panic!("{login} is not found"));
            assert!(customer.active && !customer.password_hash.is_empty(), "{login}");
            assert_eq!(customer.key, *key, "{login}");
            let again = directory
                .find(&Wanted::Key(customer.key.clone()), Search::Exact)
                .await;
            assert_eq!(again.unwrap().unwrap().active, customer.active, "{login}");
        }
    }
}

#[tokio::test]
async fn the_ready_queries_fit_the_systems_that_they_are_for() {
    let postgres = World::Postgres(Postgres::start().await.unwrap());
    DJANGO.check(&postgres).await;
    postgres.run("DROP OWNED BY stagedoor; DROP ROLE stagedoor").await;
    SPRING_SECURITY.check(&postgres).await;
    let server = MariaDb::start().await.unwrap();
    server
        .run("mysql", "CREATE DATABASE shop CHARACTER SET utf8mb4")
        .await
        .unwrap();
    let mariadb = World::MariaDb(server);
    WOOCOMMERCE.check(&mariadb).await;
    let World::MariaDb(server) = &mariadb else {
        unreachable!()
    };
    server.run("mysql", "DROP USER stagedoor").await.unwrap();
    LARAVEL.check(&mariadb).await;
}
