// One MQTT.js client that stays: it subscribes to e2e/CLIENT-ID, reconnects by itself, and prints what happens to it.
//
//	node mqttjs-stay.js HOST PORT PROTOCOL-LEVEL CLIENT-ID
'use strict'

const mqtt = require('mqtt')

const [host, port, level, clientId] = process.argv.slice(2)

const client = mqtt.connect({ host, port: Number(port), clientId, protocolVersion: Number(level) })
client.on('connect', () => {
  console.log('connected')
  client.subscribe(`e2e/${clientId}`, { qos: 1 })
})
client.on('message', (_, payload) => console.log(`received ${payload}`))
client.on('disconnect', (packet) => console.log(`told 0x${packet.reasonCode.toString(16)} ${packet.properties?.reasonString}`))
client.on('error', (err) => console.log(`error ${err}`))
