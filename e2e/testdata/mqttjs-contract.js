// Clients of MQTT.js that do what standard input orders, one order per line; what happens to them goes to standard
// output, behind their number. The orders are those of ../hivemq/Client.java.
'use strict'

const crypto = require('crypto')
const readline = require('readline')
const mqtt = require('mqtt')

const clients = new Map()

readline.createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [verb, number, ...words] = line.split(' ')
    const order = Object.fromEntries(words.map((w) => [w.slice(0, w.indexOf('=')), w.slice(w.indexOf('=') + 1)]))
    const done = (err) => tell(number, err ? `failed ${err}` : `done ${verb}`)
    if (verb === 'listen') listen(number, order, done)
    else if (verb === 'speak') speak(order, done)
    else clients.get(number).end(false, done)
  })
  .on('close', () => process.exit(0))

function connect (order, more) {
  const client = mqtt.connect({
    host: order.host,
    port: Number(order.port),
    clientId: order.id,
    protocolVersion: Number(order.version),
    keepalive: 30,
    reconnectPeriod: 0,
    ...more
  })
  client.on('error', () => {}) // a cut is part of the play; what fails has a callback or a deadline
  return client
}

function listen (number, order, done) {
  const v5 = order.version === '5'
  const more = { clean: order.keep === 'false' }
  if (v5) more.properties = { sessionExpiryInterval: Number(order.expiry) }
  if (order.will) {
    more.will = { topic: order.will, payload: 'will', qos: 1 }
    if (v5) more.will.properties = { willDelayInterval: Number(order.delay) }
  }
  const client = connect(order, more)
  clients.set(number, client)
  client.on('message', (_, payload, packet) => {
    let text = payload.toString()
    if (payload.length > 100) {
      text = `${payload.length} bytes ${crypto.createHash('sha256').update(payload).digest('hex').slice(0, 16)}`
    }
    tell(number, `received ${text} qos=${packet.qos} retain=${Number(packet.retain)}`)
  })
  client.on('connect', () => client.subscribe(order.filter, { qos: Number(order.qos) }, done))
}

function speak (order, done) {
  const client = connect(order, { clean: true })
  let payload = order.text
  if (order.size) {
    payload = Buffer.alloc(Number(order.size))
    for (let i = 0; i < payload.length; i++) payload[i] = 97 + i % 23
  }
  client.on('connect', () => {
    client.publish(order.topic, payload, { qos: Number(order.qos), retain: order.retain === 'true' }, (err) => {
      if (err) done(err)
      else client.end(false, done)
    })
  })
}

function tell (number, what) {
  console.log(`${number} ${what}`)
}
