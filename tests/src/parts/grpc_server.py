"""A gRPC server with health checks: SERVING but for the services whose names say otherwise."""

import os
import sys
import time
from concurrent import futures

import grpc


# While this file is there, nothing is served.
FLAG = os.environ.get("NOT_SERVING", "")
if os.path.exists(FLAG):
    os.remove(FLAG)


def check(request, context):
    # HealthCheckRequest: field 1, a string.
    service = request[2:].decode()
    if service == "slow":
        # Its thread is free for others once the client has given up.
        while context.is_active():
            time.sleep(0.05)
    if service == "not-serving" or os.path.exists(FLAG):
        return b"\x08\x02"
    if service == "unknown":
        return b"\x08\x03"
    if service not in ("", "shop.v1.Orders"):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return b"\x08\x01"


class Health(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/grpc.health.v1.Health/Check" and sys.argv[2] == "health":
            return grpc.unary_unary_rpc_method_handler(check)
        return None


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((Health(),))
address = f"127.0.0.1:{sys.argv[1]}"
if len(sys.argv) > 3:
    certificate, key = (open(path, "rb").read() for path in sys.argv[3:5])
    server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
else:
    server.add_insecure_port(address)
server.start()
print("serving", flush=True)
server.wait_for_termination()
