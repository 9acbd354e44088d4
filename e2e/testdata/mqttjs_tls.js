// One MQTT.js client over TLS that publishes to itself with QoS 1, and ends with status 0 when that has come back.
//
//	node mqttjs_tls.js HOST PORT TLS-VERSION CLIENT-ID CA [CERT KEY]
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const [host, port, version, clientId, ca, cert, key] = process.argv.slice(2)
const topic = `e2e/${clientId}`

function fail (why) {
  console.error(why)
  process.exit(1)
}

setTimeout(() => fail('nothing came back'), 20000)
const client = mqtt.connect({
  protocol: 'mqtts',
  host,
  port: Number(port),
  clientId,
  ca: fs.readFileSync(ca),
  cert: cert && fs.readFileSync(cert),
  key: key && fs.readFileSync(key),
  minVersion: version,
  maxVersion: version,
  ALPNProtocols: ['mqtt'],
  reconnectPeriod: 0
})
client.on('error', fail)
client.on('connect', () => {
  client.subscribe(topic, { qos: 1 }, (err) => {
    if (err) fail(err)
    client.publish(topic, 'hello', { qos: 1 })
  })
})
client.on('message', () => client.end(false, {}, () => process.exit(0)))
