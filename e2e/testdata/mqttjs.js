// One MQTT.js client that publishes to itself: connects, subscribes, publishes with QoS 0, 1 and 2, and
// ends with status 0 when all three have come back.
//
//	node mqttjs.js HOST PORT PROTOCOL-LEVEL CLIENT-ID
'use strict'

const mqtt = require('mqtt')

const [host, port, level, clientId] = process.argv.slice(2)
const topic = `e2e/${clientId}`
const missing = new Set(['qos 0', 'qos 1', 'qos 2'])

const timeout = setTimeout(() => fail(`not received: ${[...missing]}`), 10000)

function fail (why) {
  console.error(why)
  process.exit(1)
}

const client = mqtt.connect({
  host,
  port: Number(port),
  clientId,
  protocolVersion: Number(level),
  protocolId: level === '3' ? 'MQIsdp' : 'MQTT',
  reconnectPeriod: 0
})
// Once everything has come, mosquitto may well be the first to close.
client.on('error', (err) => { if (missing.size > 0) fail(err) })
client.on('close', () => { if (missing.size > 0) fail('the connection was closed') })
client.on('connect', () => {
  client.subscribe(topic, { qos: 2 }, (err) => {
    if (err) fail(err)
    for (const qos of [0, 1, 2]) {
      client.publish(topic, `qos ${qos}`, { qos }, (err) => { if (err) fail(err) })
    }
  })
})
client.on('message', (_, payload, packet) => {
  if (payload.toString() !== `qos ${packet.qos}`) fail(`"${payload}" came with QoS ${packet.qos}`)
  missing.delete(payload.toString())
  if (missing.size === 0) {
    clearTimeout(timeout)
    client.end()
  }
})
