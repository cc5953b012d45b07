import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.filter.FilterFactory;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.expression.MQFilterException;

/**
 * Fills in the answers of RocketMQ's own SQL92 evaluator. Reads lines of properties (a=1;b=x, or -), a tab and an
 * expression; what follows a second tab is replaced by true, false, null, value (not a boolean), error (thrown for the
 * message) or refused (by the parser). A fourth column is kept.
 */
public class RocketmqFilter {
    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            if (line.isBlank() || line.startsWith("#")) {
                out.println(line);
                continue;
            }
            String[] columns = line.split("\t", -1);
            String kept = columns.length > 3 ? "\t" + columns[3] : "";
            out.println(columns[0] + "\t" + columns[1] + "\t" + answer(columns[1], properties(columns[0])) + kept);
        }
    }

    private static Map<String, Object> properties(String text) {
        Map<String, Object> properties = new HashMap<>();
        for (String pair : text.equals("-") ? new String[0] : text.split(";")) {
            int equals = pair.indexOf('=');
            properties.put(pair.substring(0, equals), pair.substring(equals + 1));
        }
        return properties;
    }

    private static String answer(String text, Map<String, Object> properties) {
        Expression expression;
        try {
            expression = FilterFactory.INSTANCE.get("SQL92").compile(text);
        } catch (MQFilterException | RuntimeException refused) {
            return "refused";
        }
        try {
            Object answer = expression.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return properties.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return properties;
                }
            });
            return answer == null ? "null" : answer instanceof Boolean ? answer.toString() : "value";
        } catch (Exception thrown) {
            return "error";
        }
    }
}
