# Prints the value of the secret K, as it was delivered in the way that the argument names.
import mmap, os, sys
how, e = sys.argv[1], os.environ
if how == "fd": n = int(e["K_FD"]); v = mmap.mmap(n, os.fstat(n).st_size, prot=mmap.PROT_READ)[:].decode()
elif how == "file": v = open(e["REMPART_FILE_K"]).read()
elif how == "credential": v = open(e["CREDENTIALS_DIRECTORY"] + "/K").read()
else: v = e["PW"]
print(v, end="")
