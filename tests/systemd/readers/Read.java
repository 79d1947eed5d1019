import java.nio.file.*;
class Read {
    public static void main(String[] a) throws Exception {
        var e = System.getenv();
        var path = switch (a[0]) {
            case "fd" -> "/proc/self/fd/" + e.get("K_FD");
            case "file" -> e.get("REMPART_FILE_K");
            case "credential" -> e.get("CREDENTIALS_DIRECTORY") + "/K";
            default -> null;
        };
        System.out.write(path != null ? Files.readAllBytes(Path.of(path)) : e.get("PW").getBytes("UTF-8"));
        System.out.flush();
    }
}
