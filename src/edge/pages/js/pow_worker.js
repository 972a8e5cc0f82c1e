// Finds the number behind a challenge, in a thread of its own so that the page stays alive. SHA-256 by FIPS 180-4: the
// browser's own is slower where it answers each hash by a promise, and missing where a rehearsal is served without TLS.
const K = Int32Array.of(
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
  0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
  0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
  0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
  0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
  0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
);
const START = Int32Array.of(0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19);
const BLOCK = 64;
const TOLD_EVERY = 1 << 15;
const w = new Int32Array(64);

/** Takes the block of `view` at `at` into `state`. */
function compress(state, view, at) {
  for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    w[i] = (w[i - 16] + w[i - 7] + (((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)) + (((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10))) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const t = (h + (((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))) + ((e & f) ^ (~e & g)) + K[i] + w[i]) | 0;
    const u = ((((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t) | 0;
    d = c;
    c = b;
    b = a;
    a = (t + u) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}

/** The number up to `maxnumber` whose digits after `salt` have the SHA-256 `challenge`, or `null`. */
function find({ salt, challenge, maxnumber }, tell) {
  const bytes = new TextEncoder().encode(salt);
  const wanted = Int32Array.from({ length: 8 }, (_, i) => parseInt(challenge.slice(8 * i, 8 * i + 8), 16));
  // The salt's whole blocks are the same for every number.
  const whole = bytes.length - (bytes.length % BLOCK);
  const after_salt = START.slice();
  for (let at = 0; at < whole; at += BLOCK) compress(after_salt, new DataView(bytes.buffer), at);
  const from = bytes.length - whole;
  const tail = new Uint8Array(2 * BLOCK);
  const view = new DataView(tail.buffer);
  const state = new Int32Array(8);
  let length = 0;
  let end = 0;
  for (let number = 0; number <= maxnumber; number++) {
    const digits = String(number);
    if (digits.length !== length) {
      length = digits.length;
      end = from + length + 9 > BLOCK ? 2 * BLOCK : BLOCK;
      tail.fill(0);
      tail.set(bytes.subarray(whole));
      tail[from + length] = 0x80;
      view.setUint32(end - 4, 8 * (bytes.length + length));
    }
    for (let i = 0; i < length; i++) tail[from + i] = digits.charCodeAt(i);
    state.set(after_salt);
    for (let at = 0; at < end; at += BLOCK) compress(state, view, at);
    if (state[0] === wanted[0] && state.every((word, i) => word === wanted[i])) return number;
    if (number % TOLD_EVERY === 0) tell(number);
  }
  return null;
}

onmessage = ({ data }) => postMessage({ number: find(data, (tried) => postMessage({ tried })) });
