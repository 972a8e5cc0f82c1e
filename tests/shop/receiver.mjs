// A shop's receiver, with the public library of Standard Webhooks for JavaScript.
//
//     RECEIVER_SECRET=whsec_... node receiver.mjs FILE
//
// Does what receiver.py does.
import { appendFileSync } from "node:fs";
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env.RECEIVER_SECRET);
const file = process.argv[2];
const failures = new Map();
let requests = 0;

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const body = Buffer.concat(chunks).toString("utf8");
    let event;
    try {
      event = webhook.verify(body, request.headers);
      if (event.id !== request.headers["webhook-id"]) throw new Error("another id");
    } catch (error) {
      response.writeHead(401).end();
      console.error(`refused: ${error.message}`);
      process.exit(1);
    }
    requests += 1;
    const failed = failures.get(event.id) ?? 0;
    if (requests % 2 && failed < 2) {
      failures.set(event.id, failed + 1);
      response.writeHead(500).end();
      return;
    }
    appendFileSync(file, `${JSON.stringify(event)}\n`);
    response.writeHead(204).end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/events`));
