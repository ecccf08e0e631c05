// Runs Debezium's own engine with its outbox event router and writes down what reaches the handler: for the comparison
// every event as it came, for the benchmark the position and the time. It must not decide whether that is right.
//
// java Outbox PROPERTIES OUT COUNT full|times
// Ends after COUNT events: a file OUT with a line per event, then `hwm_kib N`.

import io.debezium.engine.ChangeEvent;
import io.debezium.engine.DebeziumEngine;
import io.debezium.engine.format.Json;
import java.io.PrintWriter;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

public final class Outbox {
    private static long micros() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
    }

    private static long position(String value) {
        int at = value.indexOf("\"position\":") + 11;
        int end = at;
        while (Character.isDigit(value.charAt(end))) {
            end++;
        }
        return Long.parseLong(value, at, end, 10);
    }

    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            properties.load(reader);
        }
        int count = Integer.parseInt(arguments[2]);
        boolean isFull = arguments[3].equals("full");
        List<String> full = new ArrayList<>();
        long[] positions = new long[count];
        long[] times = new long[count];
        int[] seen = {0};
        CountDownLatch done = new CountDownLatch(1);

        DebeziumEngine<ChangeEvent<String, String>> engine = DebeziumEngine.create(Json.class)
                .using(properties)
                .notifying((records, committer) -> {
                    for (ChangeEvent<String, String> record : records) {
                        boolean isEvent = record.value() != null && record.value().contains("\"position\":");
                        if (isEvent && seen[0] < count) {
                            if (isFull) {
                                full.add(record.destination() + "\t" + record.key() + "\t" + record.value());
                            }
                            positions[seen[0]] = position(record.value());
                            times[seen[0]] = micros();
                            seen[0]++;
                        }
                        committer.markProcessed(record);
                    }
                    committer.markBatchFinished();
                    if (seen[0] >= count) {
                        done.countDown();
                    }
                })
                .using((success, message, error) -> {
                    if (error != null) {
                        error.printStackTrace();
                    }
                    System.err.println("engine ended: " + message);
                    done.countDown();
                })
                .build();
        Thread thread = new Thread(engine, "engine");
        thread.setDaemon(true);
        thread.start();
        done.await();

        // Before closing, which can block.
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(Path.of(arguments[1])))) {
            for (int index = 0; index < seen[0]; index++) {
                out.println(isFull ? full.get(index) : positions[index] + " " + times[index]);
            }
            for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                if (line.startsWith("VmHWM:")) {
                    out.println("hwm_kib " + line.replaceAll("[^0-9]", ""));
                }
            }
        }
        Runtime.getRuntime().halt(seen[0] >= count ? 0 : 1);
    }
}
