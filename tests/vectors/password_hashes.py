"""Writes src/shop/passwords/stored_hash/vectors.json: hashes as shop systems store them.

    pip install django==5.2.* argon2-cffi bcrypt passlib && apt-get install php-cli
    python tests/vectors/password_hashes.py > src/shop/passwords/stored_hash/vectors.json

Where the foreign system can be installed, its own code makes the hash. The others follow their public documentation.
Salts and costs are fixed and low.
"""

import base64
import hashlib
import hmac
import json
import subprocess

import argon2.low_level
import bcrypt
import django
from django.conf import settings

settings.configure(PASSWORD_HASHERS=[])
django.setup()
from django.contrib.auth import hashers  # noqa: E402
from passlib.hash import phpass  # noqa: E402

LONG = "긴비밀번호" * 20
PASSWORDS = ["hero-lim", "비밀번호 é", LONG]
ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def php(code, *args):
    return subprocess.run(["php", "-r", code, "--", *args], check=True, capture_output=True, text=True).stdout


def bcrypt_of(password, version):
    text = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    return f"${version}$" + text[4:]


def argon2_of(password, kind):
    return argon2.low_level.hash_secret(password.encode(), b"saltsaltsaltsalt", 1, 64, 2, 32, kind).decode()


def drupal(password, salt="abcdefgh", log2=7):
    """Drupal 7 to 10, PhpassHashedPassword::crypt."""
    password = password.encode()
    digest = hashlib.sha512(salt.encode() + password).digest()
    for _ in range(1 << log2):
        digest = hashlib.sha512(digest + password).digest()
    number, text = int.from_bytes(digest, "little"), ""
    for _ in range(86):
        text, number = text + ITOA64[number & 63], number >> 6
    return ("$S$" + ITOA64[log2] + salt + text)[:55]


def wordpress(password):
    """WordPress 6.8, wp_hash_password, by PHP's own functions."""
    return php(
        "echo '$wp' . password_hash(base64_encode(hash_hmac('sha384', trim($argv[1]), 'wp-sha384', true)),"
        " PASSWORD_BCRYPT, ['cost' => 4]);",
        password,
    )


def aspnet(password, function=2, name="sha512", iterations=1000):
    """ASP.NET Core Identity, PasswordHasher.HashPasswordV3."""
    salt = bytes(range(16))
    key = hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations, 32)
    header = b"\x01" + b"".join(n.to_bytes(4, "big") for n in (function, iterations, len(salt)))
    return base64.b64encode(header + salt + key).decode()


def spring_pbkdf2(password, name, iterations, salt):
    return (salt + hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations, 32)).hex()


def spring_scrypt(password):
    salt = b"spring-scrypt-ok"
    key = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=2, dklen=32)
    encode = lambda data: base64.b64encode(data).decode()
    return f"${10 << 16 | 8 << 8 | 2:x}${encode(salt)}${encode(key)}"


def phc_scrypt(password):
    salt = b"phc-string-salt!"
    key = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1, dklen=32)
    encode = lambda data: base64.b64encode(data).decode().rstrip("=")
    return f"$scrypt$ln=10,r=8,p=1${encode(salt)}${encode(key)}"


def phc_pbkdf2(password):
    salt = b"phc-string-salt!"
    encode = lambda data: base64.b64encode(data).decode().rstrip("=")
    return f"$pbkdf2-sha512$i=500,l=64${encode(salt)}${encode(hashlib.pbkdf2_hmac('sha512', password.encode(), salt, 500))}"


class FewPbkdf2(hashers.PBKDF2PasswordHasher):
    iterations = 500


class FewPbkdf2Sha1(hashers.PBKDF2SHA1PasswordHasher):
    iterations = 500


class QuickBcrypt(hashers.BCryptPasswordHasher):
    rounds = 4


class QuickBcryptSha256(hashers.BCryptSHA256PasswordHasher):
    rounds = 4


class QuickScrypt(hashers.ScryptPasswordHasher):
    work_factor = 1 << 10


class QuickArgon2(hashers.Argon2PasswordHasher):
    time_cost, memory_cost, parallelism = 1, 64, 2


def formats(password):
    bytes72 = password.encode()[:72].decode(errors="ignore")
    yield "django_pbkdf2_sha256", "Django", FewPbkdf2().encode(password, "saltsalt")
    yield "django_pbkdf2_sha1", "Django", FewPbkdf2Sha1().encode(password, "saltsalt")
    yield "django_argon2", "Django", QuickArgon2().encode(password, "saltsalt")
    yield "django_scrypt", "Django", QuickScrypt().encode(password, "saltsalt")
    yield "django_bcrypt_sha256", "Django", QuickBcryptSha256().encode(password, bcrypt.gensalt(4))
    if len(password.encode()) <= 72:
        yield "django_bcrypt", "Django", QuickBcrypt().encode(password, bcrypt.gensalt(4))
    for version in ("2a", "2b"):
        yield "bcrypt", "bcrypt for Python", bcrypt_of(password, version)
    yield "bcrypt", "PHP password_hash, as in Laravel", php(
        "echo password_hash($argv[1], PASSWORD_BCRYPT, ['cost' => 4]);", password
    )
    yield "argon2", "PHP password_hash", php(
        "echo password_hash($argv[1], PASSWORD_ARGON2ID, ['memory_cost' => 64, 'time_cost' => 2, 'threads' => 1]);",
        password,
    )
    for kind in (argon2.low_level.Type.I, argon2.low_level.Type.D):
        yield "argon2", "argon2-cffi", argon2_of(password, kind)
    yield "scrypt", "PHC string", phc_scrypt(password)
    yield "pbkdf2", "PHC string", phc_pbkdf2(password)
    yield "wordpress_bcrypt", "WordPress 6.8 by PHP", wordpress(password)
    yield "phpass", "passlib", phpass.using(rounds=7).hash(password)
    yield "phpass", "passlib, as phpBB writes it", phpass.using(rounds=7, ident="$H$").hash(password)
    yield "drupal", "documentation of Drupal", drupal(password)
    yield "bcrypt", "Spring {bcrypt}", "{bcrypt}" + bcrypt_of(password, "2a")
    yield "argon2", "Spring {argon2}", "{argon2@SpringSecurity_v5_8}" + argon2_of(password, argon2.low_level.Type.ID)
    yield "spring_scrypt", "documentation of Spring", "{scrypt@SpringSecurity_v5_8}" + spring_scrypt(password)
    yield "spring_pbkdf2", "documentation of Spring", "{pbkdf2}" + spring_pbkdf2(password, "sha1", 185000, b"saltsalt")
    yield "spring_pbkdf2", "documentation of Spring", "{pbkdf2@SpringSecurity_v5_8}" + spring_pbkdf2(
        password, "sha256", 310000, b"saltsaltsaltsalt"
    )
    yield "aspnet_identity_v3", "documentation of ASP.NET Core", aspnet(password)
    yield "aspnet_identity_v3", "documentation of ASP.NET Core", aspnet(password, 1, "sha256", 500)
    yield "md5", "an old shop", hashlib.md5(password.encode()).hexdigest()
    yield "sha1", "an old shop", hashlib.sha1(password.encode()).hexdigest()
    yield "salted_md5", "Django before 1.4", "md5$salt$" + hashlib.md5(("salt" + password).encode()).hexdigest()
    yield "salted_sha1", "Django before 1.4", "sha1$salt$" + hashlib.sha1(("salt" + password).encode()).hexdigest()
    yield "plain", "Spring {noop}", "{noop}" + password


vectors = [
    # The README of the gem `ruby-drupal-hash` gives this one.
    {"format": "drupal", "source": "ruby-drupal-hash", "password": "password1234",
     "stored": "$S$DeIZ1KTE.VzRvudZ5.xgOakipuMFrVyPmRdWTjAdYieWj27NMglI"},
]
for password in PASSWORDS:
    # Spring's fixed counts of iterations take time in tests: once is enough.
    for format, source, stored in formats(password):
        if format == "spring_pbkdf2" and password != PASSWORDS[0]:
            continue
        vectors.append({"format": format, "source": source, "password": password, "stored": stored})
print(json.dumps(vectors, ensure_ascii=False, indent=1))
