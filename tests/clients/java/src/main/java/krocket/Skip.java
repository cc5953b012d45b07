package krocket;

/** The client cannot do what the case asks; the message says why. */
final class Skip extends RuntimeException {
    Skip(String why) {
        super(why);
    }
}
