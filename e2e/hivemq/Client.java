import com.hivemq.client.mqtt.MqttClient;
import com.hivemq.client.mqtt.MqttGlobalPublishFilter;
import com.hivemq.client.mqtt.datatypes.MqttQos;
import com.hivemq.client.mqtt.mqtt3.Mqtt3AsyncClient;
import com.hivemq.client.mqtt.mqtt5.Mqtt5AsyncClient;
import com.hivemq.client.mqtt.mqtt5.message.connect.Mqtt5ConnectBuilder;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Supplier;

/**
 * Clients of hivemq-mqtt-client that do what standard input orders, one order per line; what happens to
 * them goes to standard output, behind their number. testdata/mqttjs-contract.js understands the same orders.
 *
 *     listen NUMBER host=H port=P version=V id=ID filter=F qos=Q keep=true|false expiry=S [will=TOPIC delay=S]
 *     speak NUMBER host=H port=P version=V id=ID topic=T qos=Q retain=true|false text=TEXT | size=BYTES
 *     leave NUMBER
 */
class Client {
    private final Map<String, Supplier<CompletableFuture<?>>> leaving = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        Client clients = new Client();
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line = orders.readLine(); line != null; line = orders.readLine()) {
            String[] words = line.split(" ");
            Map<String, String> order = new HashMap<>();
            for (String word : words) {
                int at = word.indexOf('=');
                if (at > 0) {
                    order.put(word.substring(0, at), word.substring(at + 1));
                }
            }
            clients.obey(words[0], words[1], order);
        }
        Runtime.getRuntime().halt(0);
    }

    private void obey(String verb, String number, Map<String, String> order) {
        CompletableFuture<?> done;
        switch (verb) {
            case "listen":
                done = order.get("version").equals("5") ? listen5(number, order) : listen3(number, order);
                break;
            case "speak":
                done = order.get("version").equals("5") ? speak5(order) : speak3(order);
                break;
            default:
                done = leaving.remove(number).get();
        }
        done.whenComplete((result, error) -> tell(number, error == null ? "done " + verb : "failed " + error));
    }

    private CompletableFuture<?> listen5(String number, Map<String, String> order) {
        Mqtt5AsyncClient client = client5(order);
        leaving.put(number, client::disconnect);
        client.publishes(MqttGlobalPublishFilter.ALL, message -> tell(number, message.getPayloadAsBytes(), message.getQos(), message.isRetain()));
        Mqtt5ConnectBuilder.Send<?> connect = client.connectWith().keepAlive(30)
                .cleanStart(order.get("keep").equals("false"))
                .sessionExpiryInterval(Long.parseLong(order.get("expiry")));
        if (order.containsKey("will")) {
            connect.willPublish().topic(order.get("will")).qos(MqttQos.AT_LEAST_ONCE)
                    .payload(bytes("will")).delayInterval(Long.parseLong(order.get("delay"))).applyWillPublish();
        }
        CompletableFuture<?> connected = (CompletableFuture<?>) connect.send();
        return connected.thenCompose(ack -> client.subscribeWith().topicFilter(order.get("filter")).qos(qos(order)).send());
    }

    private CompletableFuture<?> speak5(Map<String, String> order) {
        Mqtt5AsyncClient client = client5(order);
        return client.connectWith().keepAlive(30).send()
                .thenCompose(ack -> client.publishWith().topic(order.get("topic")).qos(qos(order))
                        .retain(order.get("retain").equals("true")).payload(payload(order)).send())
                .thenCompose(result -> client.disconnect());
    }

    private CompletableFuture<?> listen3(String number, Map<String, String> order) {
        Mqtt3AsyncClient client = client3(order);
        leaving.put(number, client::disconnect);
        client.publishes(MqttGlobalPublishFilter.ALL, message -> tell(number, message.getPayloadAsBytes(), message.getQos(), message.isRetain()));
        var connect = client.connectWith().keepAlive(30).cleanSession(order.get("keep").equals("false"));
        if (order.containsKey("will")) {
            connect.willPublish().topic(order.get("will")).qos(MqttQos.AT_LEAST_ONCE).payload(bytes("will")).applyWillPublish();
        }
        return connect.send().thenCompose(ack -> client.subscribeWith().topicFilter(order.get("filter")).qos(qos(order)).send());
    }

    private CompletableFuture<?> speak3(Map<String, String> order) {
        Mqtt3AsyncClient client = client3(order);
        return client.connectWith().keepAlive(30).send()
                .thenCompose(ack -> client.publishWith().topic(order.get("topic")).qos(qos(order))
                        .retain(order.get("retain").equals("true")).payload(payload(order)).send())
                .thenCompose(result -> client.disconnect());
    }

    private static Mqtt5AsyncClient client5(Map<String, String> order) {
        return MqttClient.builder().useMqttVersion5().identifier(order.get("id"))
                .serverHost(order.get("host")).serverPort(Integer.parseInt(order.get("port"))).buildAsync();
    }

    private static Mqtt3AsyncClient client3(Map<String, String> order) {
        return MqttClient.builder().useMqttVersion3().identifier(order.get("id"))
                .serverHost(order.get("host")).serverPort(Integer.parseInt(order.get("port"))).buildAsync();
    }

    private static MqttQos qos(Map<String, String> order) {
        return MqttQos.fromCode(Integer.parseInt(order.get("qos")));
    }

    private static byte[] payload(Map<String, String> order) {
        if (!order.containsKey("size")) {
            return bytes(order.get("text"));
        }
        byte[] payload = new byte[Integer.parseInt(order.get("size"))];
        for (int i = 0; i < payload.length; i++) {
            payload[i] = (byte) ('a' + i % 23);
        }
        return payload;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private void tell(String number, byte[] payload, MqttQos qos, boolean retain) {
        String text = new String(payload, StandardCharsets.UTF_8);
        if (payload.length > 100) {
            text = payload.length + " bytes " + digest(payload);
        }
        tell(number, "received " + text + " qos=" + qos.getCode() + " retain=" + (retain ? 1 : 0));
    }

    private static String digest(byte[] payload) {
        try {
            StringBuilder hex = new StringBuilder();
            for (byte b : Arrays.copyOf(MessageDigest.getInstance("SHA-256").digest(payload), 8)) {
                hex.append(String.format("%02x", b));
            }
            return hex.toString();
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private static synchronized void tell(String number, String what) {
        System.out.println(number + " " + what.replace('\n', ' '));
    }
}
