"""A CA and what it signs, by openssl, for PostgreSQL's user. Files in one folder: ca.crt, ca.key, NAME.crt, NAME.key."""
import os
import shutil
import subprocess


class Authority:
    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.openssl("ca", "/CN=Test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, name, subject, *more):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-days", "30", "-subj", subject, "-keyout", self.path(f"{name}.key"),
                        "-out", self.path(f"{name}.crt"), *more],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.chmod(self.path(f"{name}.key"), 0o600)

    def make(self, name, host=None, user="postgres"):
        """A certificate for a server of that name, or for a client."""
        names = ["-addext", f"subjectAltName=DNS:{host}"] if host else []
        self.openssl(name, f"/O=Test/CN={host or name}", "-CA", self.path("ca.crt"), "-CAkey",
                     self.path("ca.key"), "-addext", "basicConstraints=critical,CA:FALSE", *names)
        for end in ("crt", "key"):
            shutil.chown(self.path(f"{name}.{end}"), user, user)
