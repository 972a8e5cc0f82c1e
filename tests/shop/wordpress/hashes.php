<?php
// The passwords that a WordPress shop of ten years has stored, each made by PHP as the plugin or version of its time did.
// Prints a line for each: a name, a tab, the hash.
$password = $argv[1];

// WordPress since 6.8: bcrypt of a SHA-384, so that long passwords count as a whole (wp_hash_password).
$prehashed = base64_encode(hash_hmac('sha384', trim($password), 'wp-sha384', true));
echo "wordpress_bcrypt\t\$wp", password_hash($prehashed, PASSWORD_BCRYPT), "\n";
// Plugins that replaced WordPress' own hashing.
echo "bcrypt\t", password_hash($password, PASSWORD_BCRYPT), "\n";
echo "argon2id\t", password_hash($password, PASSWORD_ARGON2ID), "\n";

// WordPress before: the portable hash of Openwall's phpass, 2^13 rounds of MD5.
$alphabet = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
$salt = 'Sa1tOfTe';
$hash = md5($salt . $password, true);
for ($round = 0; $round < 1 << 13; $round++) {
    $hash = md5($hash . $password, true);
}
$encoded = '';
for ($at = 0; $at < 16; $at += 3) {
    $value = ord($hash[$at]) | (ord($hash[$at + 1] ?? "\0") << 8) | (ord($hash[$at + 2] ?? "\0") << 16);
    for ($part = 0; $part < 4; $part++) {
        $encoded .= $alphabet[$value >> 6 * $part & 63];
    }
}
echo "phpass\t\$P\$", $alphabet[13], $salt, substr($encoded, 0, 22), "\n";
