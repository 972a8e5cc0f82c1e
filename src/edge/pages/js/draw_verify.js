// The arithmetic of the draw: SHA-256 commitments, a Merkle tree as in RFC 6962, and the swap-or-not shuffle of the
// Ethereum consensus specification. The bytes are fixed in the house's own documentation of the draw.

const ROUNDS = 90;
const text_bytes = (text) => new TextEncoder().encode(text);
const bytes_of = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const hex_of = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", joined(parts)));

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function integer(value, length, little) {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  if (length === 8) view.setBigUint64(0, BigInt(value), little);
  else view.setUint32(0, value, little);
  return bytes;
}

function must(what, is_so) {
  if (!is_so) throw Object.assign(new Error(what), { wrong: what });
}

/** What everybody was promised, and what came of it. Gives the draw seed. */
async function check_promise(draw) {
  const seed = bytes_of(draw.seed);
  must("commitment", hex_of(await sha256(seed, text_bytes(draw.sale))) === draw.commitment);
  if (draw.signature) must("beacon", hex_of(await sha256(bytes_of(draw.signature))) === draw.beacon);
  must("closed_at", Date.parse(draw.round_at) - Date.parse(draw.closed_at) >= 30000);
  const { genesis_at, period_s } = draw.chain;
  must("round_at", Date.parse(genesis_at) + (draw.round - 1) * period_s * 1000 === Date.parse(draw.round_at));
  must("round", draw.round >= draw.planned_round);
  const draw_seed = await sha256(seed, bytes_of(draw.beacon), bytes_of(draw.root), integer(draw.entries, 8, false));
  must("draw_seed", hex_of(draw_seed) === draw.draw_seed);
  return draw_seed;
}

const leaf_hash = (leaf) => sha256(Uint8Array.of(0), leaf);
const node_hash = (left, right) => sha256(Uint8Array.of(1), left, right);

/** The pivot of one round. */
async function pivot_of(seed, round, count) {
  const hash = await sha256(seed, Uint8Array.of(round));
  return Number(new DataView(hash.buffer).getBigUint64(0, true) % BigInt(count));
}

/** Where one index goes. */
async function shuffled(index, count, seed) {
  for (let round = 0; round < ROUNDS; round += 1) {
    const pivot = await pivot_of(seed, round, count);
    const flip = (pivot + count - index) % count;
    const position = Math.max(index, flip);
    const source = await sha256(seed, Uint8Array.of(round), integer(Math.floor(position / 256), 4, true));
    if ((source[(position % 256) >> 3] >> (position % 8)) & 1) index = flip;
  }
  return index;
}

/** The leaf is computed from the receipt alone. */
async function check_leaf({ nonce, arrival, subject, leaf }) {
  const key = await crypto.subtle.importKey("raw", bytes_of(nonce), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const made = await crypto.subtle.sign("HMAC", key, joined([integer(arrival, 8, false), bytes_of(subject)]));
  must("leaf", hex_of(new Uint8Array(made)) === leaf);
}

/** Whether the path leads from the leaf, the index-th of so many, to the root (RFC 9162, section 2.1.3.2). */
async function leads_to(root, index, count, leaf, path) {
  let [at, last] = [index, count - 1];
  let hash = await leaf_hash(bytes_of(leaf));
  for (const sibling of path.map(bytes_of)) {
    if (last <= 0) return false;
    if (at % 2 || at === last) {
      hash = await node_hash(sibling, hash);
      while (at && !(at % 2)) [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
    } else hash = await node_hash(hash, sibling);
    [at, last] = [Math.floor(at / 2), Math.floor(last / 2)];
  }
  return last === 0 && hex_of(hash) === root;
}

const json_of = (part) => JSON.parse(new TextDecoder().decode(base64_of(part)));
const base64_of = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));

/** Verifies the service's signature over the receipt's group. Browsers without Ed25519 skip this check. */
async function check_group(draw, { arrival, leaf, group }, keys) {
  const [head, body, signature] = group.signed.split(".");
  const { sale, first, count, root } = json_of(body);
  must("group", sale === draw.sale && arrival >= first && (await leads_to(root, arrival - first, count, leaf, group.path)));
  const key = keys.find(({ kid }) => kid === json_of(head).kid);
  must("group", key);
  const { kty, crv, x } = key;
  const known = await crypto.subtle.importKey("jwk", { kty, crv, x }, "Ed25519", false, ["verify"]).catch(() => null);
  if (known) must("group", await crypto.subtle.verify("Ed25519", known, base64_of(signature), text_bytes(`${head}.${body}`)));
}

/** Checks leaf, signature, inclusion in the tree, and the number that the shuffle gives. */
export async function check_mine(draw, receipt, keys) {
  const seed = await check_promise(draw);
  await check_leaf(receipt);
  await check_group(draw, receipt, keys);
  must("entries", receipt.entries === draw.entries && receipt.root === draw.root);
  must("root", await leads_to(draw.root, receipt.arrival - 1, draw.entries, receipt.leaf, receipt.path));
  must("number", (await shuffled(receipt.arrival - 1, draw.entries, seed)) + 1 === receipt.number);
}

/** So many at once: one after the other would wait, all at once would not fit. */
const AT_ONCE = 512;

async function in_parts(count, make, done) {
  for (let from = 0; from < count; from += AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, i) => make(from + i)));
    done?.(Math.min(count, from + AT_ONCE) / count);
  }
}

async function root_of(leaves, count, done) {
  let level = new Uint8Array(count * 32);
  await in_parts(count, async (i) => level.set(await leaf_hash(leaves.subarray(i * 32, i * 32 + 32)), i * 32), done);
  for (let size = count; size > 1; size = Math.ceil(size / 2)) {
    const next = new Uint8Array(Math.ceil(size / 2) * 32);
    const node = (i) => level.subarray(i * 32, i * 32 + 32);
    await in_parts(Math.ceil(size / 2), async (i) => next.set(2 * i + 1 < size ? await node_hash(node(2 * i), node(2 * i + 1)) : node(2 * i), i * 32));
    level = next;
  }
  return hex_of(level.subarray(0, 32));
}

/** All queue numbers in order of arrival: every round, pairs that lie around its pivot change places or not. */
async function order_of(count, seed, done) {
  const place = Uint32Array.from({ length: count }, (_, i) => i);
  const blocks = Math.ceil(count / 256);
  const bits = new Uint8Array(blocks * 32);
  for (let round = 0; round < ROUNDS; round += 1) {
    const pivot = await pivot_of(seed, round, count);
    await in_parts(blocks, async (i) => bits.set(await sha256(seed, Uint8Array.of(round), integer(i, 4, true)), i * 32));
    for (let i = 0; i < count; i += 1) {
      const flip = (pivot + count - place[i]) % count;
      const position = Math.max(place[i], flip);
      if ((bits[position >> 3] >> (position & 7)) & 1) place[i] = flip;
    }
    done((round + 1) / ROUNDS);
  }
  const packed = new Uint8Array(count * 4);
  const view = new DataView(packed.buffer);
  place.forEach((it, i) => view.setUint32(i * 4, it + 1, false));
  return packed;
}

/** Everybody who was in it was in the tree, and the whole order is the one that was published. */
export async function check_all(draw, leaves, done) {
  const seed = await check_promise(draw);
  must("entries", leaves.length === draw.entries * 32);
  must("root", (await root_of(leaves, draw.entries, (share) => done(share / 2))) === draw.root);
  must("order", hex_of(await sha256(await order_of(draw.entries, seed, (share) => done(0.5 + share / 2)))) === draw.order);
}
