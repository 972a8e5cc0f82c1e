//! Converts the settings to the configurations of the contexts.

use std::time::Duration;

use crate::{
    checkout,
    edge::overload::proof_of_work,
    ops::config::{
        sections::{HandoffSettings, Settings},
        units::{millis, seconds},
    },
    shop::{self, HandoffKeys},
};

impl Settings {
    /// The configuration of checkout.
    #[must_use]
    pub fn checkout(&self) -> checkout::Config {
        checkout::Config {
            sales: self
                .sales
                .iter()
                .map(|sale| checkout::SaleConfig {
                    sale: sale.id.clone(),
                    title: sale.title.in_language("en").to_owned(),
                    seats_per_customer_max: sale.seats_per_customer_max,
                    doors_open_at: sale
                        .performances
                        .iter()
                        .map(|performance| (performance.id.clone(), performance.doors_open_at()))
                        .collect(),
                })
                .collect(),
            issuer: self.server.public_base.clone(),
            order_response_wait: millis(self.checkout.order_response_wait_ms),
            gateway_timeout: millis(self.checkout.gateway_timeout_ms),
            payment_timeout: seconds(self.checkout.payment_timeout_s),
            payment_page_timeout: seconds(self.checkout.payment_page_timeout_s),
        }
    }

    /// The configuration of the proof of work.
    #[must_use]
    pub fn proof_of_work(&self) -> proof_of_work::Config {
        let settings = &self.limits.proof_of_work;
        proof_of_work::Config {
            difficulty_bits_min: settings.difficulty_bits_min,
            difficulty_bits_max: settings.difficulty_bits_max,
            joins_per_second_normal: settings.joins_per_second_normal,
            joins_per_ip_per_minute_normal: settings.joins_per_ip_per_minute_normal,
            challenge_ttl: seconds(settings.challenge_ttl_s),
            used_challenges_max: settings.used_challenges_max,
            allow_over_join_limit: settings.allow_over_join_limit,
        }
    }

    /// The configuration of the shop integration.
    #[must_use]
    pub fn shop(&self) -> shop::Config {
        let shop = &self.shop;
        shop::Config {
            database_url: shop.database_url.expose().to_owned(),
            customer_query: shop.customer_query.clone(),
            customer_query_any_case: shop.customer_query_any_case.clone(),
            customer_by_id_query: shop.customer_by_id_query.clone(),
            customer_sample_query: shop.customer_sample_query.clone(),
            tables: shop.tables.clone(),
            allow_write_access: shop.allow_write_access,
            connections_max: shop.connections_max,
            queries_per_second_max: shop.queries_per_second_max,
            any_case_queries_per_minute_max: shop.any_case_queries_per_minute_max,
            query_timeout: millis(shop.query_timeout_ms),
            password_limits: shop::PasswordLimits {
                threads: self.password_threads(),
                queue_max: shop.password_queue_max,
                // The rest of the request's time is for the shop's answer and the verification itself.
                wait_max: millis(self.server.request_timeout_ms).mul_f64(0.8),
            },
            wrong_passwords_per_minute: self.limits.wrong_passwords_per_account_per_minute,
            unsafe_password_formats: shop.unsafe_password_formats.clone(),
            password_sign_in: shop.password_sign_in,
            sign_in_url: (!shop.sign_in_url.is_empty()).then(|| shop.sign_in_url.clone()),
            session_ttl: Duration::from_secs(u64::from(shop.session_hours) * 3_600),
            handoff: handoff(&shop.handoff),
            oidc: (!shop.oidc.issuer.is_empty()).then(|| shop::OidcConfig {
                issuer: shop.oidc.issuer.clone(),
                client_id: shop.oidc.client_id.clone(),
                client_secret: shop.oidc.client_secret.expose().to_owned(),
                client_authentication: shop.oidc.client_authentication,
                customer_claim: shop.oidc.customer_claim.clone(),
                redirect_uri: format!("{}{}", self.server.public_base, shop::OIDC_RETURN_PATH),
            }),
        }
    }
}

fn handoff(settings: &HandoffSettings) -> Option<shop::HandoffConfig> {
    let keys = if !settings.secret.is_empty() {
        HandoffKeys::Secret(settings.secret.expose().to_owned())
    } else if !settings.jwks_url.is_empty() {
        HandoffKeys::KeySet(settings.jwks_url.clone())
    } else {
        return None;
    };
    Some(shop::HandoffConfig {
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        keys,
    })
}
