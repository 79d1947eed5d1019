const fs = require("fs"), e = process.env, how = process.argv[2];
const path = { file: e.REMPART_FILE_K, credential: e.CREDENTIALS_DIRECTORY + "/K", fd: Number(e.K_FD) };
process.stdout.write(how in path ? fs.readFileSync(path[how]) : e.PW);
