"""A mail server of aiosmtpd that takes mails after a login, and prints each as a line of JSON.

Usage: smtp_server.py PORT starttls|implicit CERTIFICATE KEY USER PASSWORD
"""

import email
import email.policy
import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

port, mode, certificate, key, user, password = sys.argv[1:7]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)


class Printer:
    async def handle_DATA(self, server, session, envelope):
        read = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": server.transport.get_extra_info("cipher") is not None,
            "login": session.authenticated,
            "mail": envelope.content.decode("utf-8", "replace"),
            "headers": [[name, str(value)] for name, value in read.items()],
            "parts": {part.get_content_type(): part.get_content() for part in read.walk() if not part.is_multipart()},
        }
        print(json.dumps(mail), flush=True)
        return "250 taken"


def authenticate(server, session, envelope, mechanism, data):
    is_right = isinstance(data, LoginPassword) and data == LoginPassword(user.encode(), password.encode())
    return AuthResult(success=is_right, handled=False)


options = {"authenticator": authenticate, "auth_required": True}
if mode == "starttls":
    options.update(tls_context=context, require_starttls=True)
else:
    options.update(ssl_context=context, auth_require_tls=False)
controller = Controller(Printer(), hostname="127.0.0.1", port=int(port), **options)
controller.start()
print("serving", flush=True)
threading.Event().wait()
