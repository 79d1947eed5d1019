case $1 in fd) cat <&"$K_FD" ;; file) cat "$REMPART_FILE_K" ;; credential) cat "$CREDENTIALS_DIRECTORY/K" ;; *) printf %s "$PW" ;; esac
