//! Operations that describe what is on sale.

use std::collections::BTreeMap;

use super::{examples, operation::OperationDoc};
use crate::{
    edge::{
        handlers::sales::{
            PerformanceResponse, PriceZone, PurchaseLimits, SALES_CACHE, SaleList, SaleResponse,
        },
        state::SignIn,
    },
    kernel::LocalText,
    waiting_room::Phase,
};

const TAG: &str = "sales";

pub(super) fn operations() -> Vec<OperationDoc> {
    let (id, performance_id) = (examples::sale(), examples::performance());
    let titles = LocalText(BTreeMap::from([
        ("en".to_owned(), "Summer Tour".to_owned()),
        ("ko".to_owned(), "여름 투어".to_owned()),
    ]));
    let price_zones = vec![PriceZone {
        zone: "floor".to_owned(),
        price: examples::won(132_000),
    }];
    let sale = || SaleResponse {
        id: &id,
        title: "Summer Tour",
        titles: &titles,
        artist: "The Examples",
        phase: Phase::OnSale,
        now: examples::at(300),
        prequeue_starts_at: examples::at(-3_600),
        on_sale_starts_at: examples::at(0),
        closes_at: examples::at(86_400),
        sign_in: SignIn::Customer,
        queue_order: "fair_draw",
        call_notices: false,
        limits: PurchaseLimits {
            seats_per_customer_max: 4,
            hold_ttl_s: 420,
        },
        performances: vec![PerformanceResponse {
            id: &performance_id,
            title: "Summer Tour, first night",
            venue: "Olympic Hall",
            starts_at: examples::at(2_592_000),
            doors_open_at: examples::at(2_586_600),
            time_zone: "Asia/Seoul",
            seat_count: 12_000,
            plan_url: "/v1/sales/summer-tour/performances/day-1/plan?v=5f1d7a84db00d2fc".to_owned(),
            price_zones: price_zones.clone(),
        }],
        price_zones: price_zones.clone(),
        demo_login: None,
    };
    vec![
        OperationDoc::new("list_sales", TAG, "List all sales")
            .header::<String>("Accept-Language", "The preferred language of titles.", false)
            .json(200, "All sales.", &SaleList { sales: vec![sale()] })
            .cache_control(SALES_CACHE),
        OperationDoc::new("get_sale", TAG, "Get a sale")
            .in_sale()
            .header::<String>("Accept-Language", "The preferred language of titles.", false)
            .json(200, "The sale.", &sale())
            .cache_control(SALES_CACHE),
    ]
}
