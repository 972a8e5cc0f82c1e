<?php // The shop's page that hands its signed-in customer over: /by-form in a form, /by-code with a code. No extension needed.
$tickets = getenv('TICKETS'); // https://tickets.example
$secret = getenv('HANDOFF_SECRET'); // shop.handoff.secret

function b64($data) {
    return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

function handoff($secret, $customer, $name) {
    $claims = ['iss' => 'https://shop.example', 'aud' => 'stagedoor', 'sub' => $customer, 'name' => $name, 'iat' => time(), 'exp' => time() + 60, 'jti' => bin2hex(random_bytes(16))];
    $signed = b64('{"alg":"HS256","typ":"JWT"}') . '.' . b64(json_encode($claims));
    return $signed . '.' . b64(hash_hmac('sha256', $signed, $secret, true));
}

$state = $_GET['state'] ?? '';
$token = handoff($secret, '7', 'Kim & Lee'); // the customer of your own session; without one, show your sign-in first
if (str_starts_with($_SERVER['REQUEST_URI'], '/by-code')) {
    $request = ['method' => 'POST', 'header' => 'Content-Type: application/json', 'content' => json_encode(['token' => $token]), 'timeout' => 5];
    $answer = json_decode(file_get_contents("$tickets/v1/handoffs", false, stream_context_create(['http' => $request])));
    header("Location: $tickets/v1/sign-in/return?" . http_build_query(['code' => $answer->code, 'state' => $state]), true, 303);
    exit;
}
header('Referrer-Policy: strict-origin');
header('Cache-Control: no-store');
?>
<form method="post" action="<?= $tickets ?>/v1/sign-in/return"><input type="hidden" name="token" value="<?= $token ?>"><input type="hidden" name="state" value="<?= htmlspecialchars($state) ?>"><button>OK</button></form>
<script>document.forms[0].submit()</script>
