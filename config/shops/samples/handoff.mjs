// The shop's page that hands its signed-in customer over: /by-form in a form, /by-code with a code. Node's own modules only.
import { createHmac, randomUUID } from "node:crypto";
import { createServer } from "node:http";

const { TICKETS, HANDOFF_SECRET, PORT } = process.env; // https://tickets.example, and shop.handoff.secret
const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function handoff(customer, name) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "https://shop.example", aud: "stagedoor", sub: customer, name, iat: now, exp: now + 60, jti: randomUUID() };
  const signed = `${b64({ alg: "HS256", typ: "JWT" })}.${b64(claims)}`;
  return `${signed}.${createHmac("sha256", HANDOFF_SECRET).update(signed).digest("base64url")}`;
}

createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://shop");
  const state = searchParams.get("state") ?? "";
  const token = handoff("7", "Kim & Lee"); // the customer of your own session; without one, show your sign-in first
  if (pathname === "/by-code") {
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${TICKETS}/v1/handoffs`, { method: "POST", headers, body: JSON.stringify({ token }), signal: AbortSignal.timeout(5000) });
    const { code } = await answer.json();
    return response.writeHead(303, { location: `${TICKETS}/v1/sign-in/return?${new URLSearchParams({ code, state })}` }).end();
  }
  const safe = state.replace(/[^\w-]/g, "");
  response.writeHead(200, { "content-type": "text/html; charset=utf-8", "referrer-policy": "strict-origin", "cache-control": "no-store" });
  response.end(`<form method="post" action="${TICKETS}/v1/sign-in/return"><input type="hidden" name="token" value="${token}"><input type="hidden" name="state" value="${safe}"><button>OK</button></form><script>document.forms[0].submit()</script>`);
}).listen(Number(PORT), "127.0.0.1");
