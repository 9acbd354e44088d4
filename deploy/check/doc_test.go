// Package check tests what is in deploy: that Kubernetes would take the manifests as they are and their parts fit
// together, that the metrics of the dashboard and the alerts exist, and that the alerts come when they should. It is a
// module of its own, because the libraries for this are many and mqttlb needs none of them.
package check
