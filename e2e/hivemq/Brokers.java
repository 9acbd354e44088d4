import com.codahale.metrics.Counter;
import com.hivemq.embedded.EmbeddedHiveMQ;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/**
 * Runs several brokers of HiveMQ Community Edition in one JVM, each with a folder of its own that has conf/config.xml.
 * It prints "started" when all of them listen. On standard input, "stop N" stops the broker of that number as an
 * operator would, and prints "stopped N, wills: M": so many it has published meanwhile. The end of the input ends the
 * program.
 *
 *     java -cp 'lib/*' Brokers.java FOLDER...
 */
class Brokers {
    public static void main(String[] folders) throws Exception {
        List<EmbeddedHiveMQ> brokers = new ArrayList<>();
        for (String name : folders) {
            Path folder = Path.of(name);
            brokers.add(EmbeddedHiveMQ.builder()
                    .withConfigurationFolder(folder.resolve("conf"))
                    .withDataFolder(folder.resolve("data"))
                    .withExtensionsFolder(folder.resolve("extensions"))
                    .withoutLoggingBootstrap()
                    .build());
        }
        CompletableFuture.allOf(brokers.stream().map(EmbeddedHiveMQ::start).toArray(CompletableFuture[]::new)).get();
        System.out.println("started");

        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            if (line.startsWith("stop ")) {
                int number = Integer.parseInt(line.substring("stop ".length()));
                Counter wills = brokers.get(number).getMetricRegistry().counter("com.hivemq.messages.will.published.count.total");
                long before = wills.getCount();
                brokers.get(number).stop().get();
                System.out.println("stopped " + number + ", wills: " + (wills.getCount() - before));
            }
        }
        Runtime.getRuntime().halt(0); // what is left is in memory only, and an orderly stop takes seconds
    }
}
