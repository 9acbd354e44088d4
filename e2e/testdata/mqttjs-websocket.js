// One MQTT.js client over WebSocket that publishes to itself: connects, subscribes, publishes with QoS 0, 1 and 2, a
// large packet too, and ends with status 0 when everything has come back.
//
//	node mqttjs-websocket.js URL PROTOCOL-LEVEL CLIENT-ID [CA-FILE]
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const [url, level, clientId, ca] = process.argv.slice(2)
const topic = `e2e/${clientId}`
const large = 'x'.repeat(200000)
const missing = new Set(['qos 0', 'qos 1', 'qos 2', large])

const timeout = setTimeout(() => fail(`${missing.size} messages did not come`), 20000)

function fail (why) {
  console.error(why)
  process.exit(1)
}

const client = mqtt.connect(url, {
  clientId,
  protocolVersion: Number(level),
  protocolId: level === '3' ? 'MQIsdp' : 'MQTT',
  reconnectPeriod: 0,
  ca: ca ? fs.readFileSync(ca) : undefined
})
client.on('error', (err) => { if (missing.size > 0) fail(err) })
client.on('close', () => { if (missing.size > 0) fail('the connection was closed') })
client.on('connect', () => {
  client.subscribe(topic, { qos: 2 }, (err) => {
    if (err) fail(err)
    for (const qos of [0, 1, 2]) {
      client.publish(topic, `qos ${qos}`, { qos }, (err) => { if (err) fail(err) })
    }
    client.publish(topic, large, { qos: 1 }, (err) => { if (err) fail(err) })
  })
})
client.on('message', (_, payload) => {
  missing.delete(payload.toString())
  if (missing.size === 0) {
    clearTimeout(timeout)
    client.end()
  }
})
