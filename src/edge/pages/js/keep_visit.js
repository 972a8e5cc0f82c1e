// For pages behind /v1/forward-auth: keeps the visitor's pass fresh while the page is open, however long they read it.
// <script type="module" src="/assets/keep_visit.js?sale=SALE"></script>
const sale = new URL(import.meta.url).searchParams.get("sale");
const RETRY_MS = 5000;

async function renew() {
  let next_ms = RETRY_MS * (1 + Math.random());
  try {
    const response = await fetch(new URL(`../v1/sales/${sale}/admission`, import.meta.url), { method: "PUT" });
    // The visit has ended, or never began: the next page says so.
    if ([401, 403, 404, 409].includes(response.status)) return;
    if (response.ok) {
      const { expires_at } = await response.json();
      const now = Date.parse(response.headers.get("date")) || Date.now();
      next_ms = Math.max(next_ms, (Date.parse(expires_at) - now) / 2);
    }
  } catch {
    // Offline: tried again.
  }
  setTimeout(renew, next_ms);
}
if (sale) renew();
