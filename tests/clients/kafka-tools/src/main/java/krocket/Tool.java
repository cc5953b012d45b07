package krocket;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.kafka.common.utils.Exit;

/** Runs the main method of one of Kafka's command-line classes in this process and returns what it printed. */
final class Tool {
    private static final PrintStream STDOUT = System.out;
    private static volatile OutputStream sink = new ByteArrayOutputStream();

    /** What a tool leaves to the end of the process: producers are flushed there. */
    private static final List<Runnable> HOOKS = new CopyOnWriteArrayList<>();

    /** The first code a tool wants to end with; some catch what ends them and then ask again, with 1. */
    private static volatile Integer code;
    private static volatile String why;

    private static final class Exited extends RuntimeException { }

    private Tool() { }

    /** Scala keeps the System.out that it finds first, so it is replaced once, by one whose target changes. */
    static void install() {
        System.setOut(new PrintStream(new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                sink.write(b);
            }

            @Override
            public void write(byte[] bytes, int from, int length) throws IOException {
                sink.write(bytes, from, length);
            }
        }, true, StandardCharsets.UTF_8));
        Exit.Procedure stop = (asked, message) -> {
            if (code == null) {
                code = asked;
                why = message == null ? "" : message;
            }
            throw new Exited();
        };
        Exit.setExitProcedure(stop);
        Exit.setHaltProcedure(stop);
        Exit.setShutdownHookAdder((name, hook) -> HOOKS.add(hook));
    }

    static void line(String text) {
        STDOUT.println(text);
        STDOUT.flush();
    }

    /** Runs a class with `--bootstrap-server ADDRESS` and the arguments. */
    static String run(String name, String... args) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", System.getenv("KROCKET_BOOTSTRAP")));
        all.addAll(List.of(args));
        return main(name, "", all);
    }

    static String main(String name, String input, List<String> args) throws Exception {
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        sink = printed;
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        String full = name.startsWith("kafka.") ? name : "org.apache.kafka.tools." + name;
        System.err.println("$ " + full + " " + String.join(" ", args));
        code = null;
        try {
            Class.forName(full).getMethod("main", String[].class).invoke(null, (Object) args.toArray(String[]::new));
        } catch (InvocationTargetException e) {
            if (!(e.getCause() instanceof Exited)) {
                throw e.getCause() instanceof Exception cause ? cause : e;
            }
        }
        HOOKS.forEach(Runnable::run);
        HOOKS.clear();
        System.out.flush();
        String text = printed.toString(StandardCharsets.UTF_8);
        System.err.println(text);
        if (code != null && code != 0) {
            throw new AssertionError(name + " ended with code " + code + ": "
                + (text + why).replaceAll("\\s+", " ").strip());
        }
        return text;
    }
}
