package krocket;

import java.util.LinkedHashMap;
import java.util.Map;

/** Does what the screens of Kafka's web consoles do, call by call. Arguments are the names of cases, a case is a screen. */
public final class Driver {
    private Driver() { }

    /** One screen. */
    interface Case {
        void run() throws Exception;
    }

    /** Screens by the names of their cases. */
    interface Console {
        Map<String, Case> cases();
    }

    public static void main(String[] names) throws Exception {
        String bootstrap = System.getenv("KROCKET_BOOTSTRAP");
        String prefix = System.getenv("KROCKET_PREFIX");
        String client = System.getenv("KROCKET_CLIENT");
        Map<String, Case> cases = new LinkedHashMap<>();
        boolean passed = true;
        try (Screens screens = new Screens(bootstrap, prefix)) {
            cases.putAll(cases(client, screens));
            for (String name : names) {
                try {
                    cases.get(name).run();
                    System.out.println("PASS " + client + " " + name);
                } catch (Throwable e) {
                    e.printStackTrace();
                    passed = false;
                    System.out.println("FAIL " + client + " " + name + ": " + e.toString().lines().findFirst().orElse(""));
                }
            }
        }
        System.exit(passed ? 0 : 1);
    }

    /** By name, since not every console is built with every version of the client. */
    private static Map<String, Case> cases(String client, Screens screens) throws ReflectiveOperationException {
        var console = Class.forName(client.startsWith("akhq") ? "krocket.Akhq" : "krocket.Kafbat");
        return ((Console) console.getDeclaredConstructor(Screens.class).newInstance(screens)).cases();
    }
}
