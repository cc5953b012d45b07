package krocket;

/** What a text has to say. */
final class Check {
    private Check() { }

    static void has(String text, String... parts) {
        String flat = text.replaceAll("\\s+", " ");
        for (String part : parts) {
            if (!flat.contains(part)) {
                throw new AssertionError("no \"" + part + "\" in: " + flat.substring(0, Math.min(200, flat.length())));
            }
        }
    }

    static void hasNot(String text, String part) {
        if (text.contains(part)) {
            throw new AssertionError("\"" + part + "\" in: " + text.strip());
        }
    }

    static void that(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }
}
