"""The shop's page that hands its signed-in customer over: /by-form in a form, /by-code with a code. Standard library only."""
import base64, hashlib, hmac, html, http.server, json, os, time, urllib.parse, urllib.request, uuid

TICKETS, SECRET = os.environ["TICKETS"], os.environ["HANDOFF_SECRET"]  # https://tickets.example, and shop.handoff.secret

def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

def handoff(customer, name):
    now = int(time.time())
    claims = {"iss": "https://shop.example", "aud": "stagedoor", "sub": customer, "name": name, "iat": now, "exp": now + 60, "jti": uuid.uuid4().hex}
    signed = b64(b'{"alg":"HS256","typ":"JWT"}') + "." + b64(json.dumps(claims).encode())
    return signed + "." + b64(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())

class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("state", [""])[0]
        token = handoff("7", "Kim & Lee")  # the customer of your own session; without one, show your sign-in first
        if self.path.startswith("/by-code"):
            deposit = urllib.request.Request(f"{TICKETS}/v1/handoffs", json.dumps({"token": token}).encode(), {"Content-Type": "application/json"})
            code = json.load(urllib.request.urlopen(deposit, timeout=5))["code"]
            self.send_response(303)
            self.send_header("Location", f"{TICKETS}/v1/sign-in/return?" + urllib.parse.urlencode({"code": code, "state": state}))
            return self.end_headers()
        self.send_response(200)
        for name, value in [("Content-Type", "text/html; charset=utf-8"), ("Referrer-Policy", "strict-origin"), ("Cache-Control", "no-store")]: self.send_header(name, value)
        self.end_headers()
        self.wfile.write(f'<form method="post" action="{TICKETS}/v1/sign-in/return"><input type="hidden" name="token" value="{token}"><input type="hidden" name="state" value="{html.escape(state)}"><button>OK</button></form><script>document.forms[0].submit()</script>'.encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Shop).serve_forever()
