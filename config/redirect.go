package config

import "slices"

// advertiseLabel is the label of a backend that says where clients reach it.
const advertiseLabel = "advertise"

// validateRedirect checks that a cluster that sends clients to its backends can do so.
func validateRedirect(path string, c *Cluster, r *report) {
	if c.Placement.Redirect != "server-reference" {
		return
	}
	if i := slices.IndexFunc(c.Placement.Groups, func(g GroupRule) bool { return g.Learn }); i >= 0 {
		r.at(path+".placement.redirect", "cannot be used together with %s, as nothing is learned from clients that are not relayed; "+
			"name the groups by client_id, username or user_property, or remove redirect", r.reference(item(path+".placement.groups", i)+".learn"))
	}
	for i := range c.Discovery.Static {
		if text, given := c.Discovery.Static[i].Labels[advertiseLabel]; given {
			checkAddress(item(path+".discovery.static", i)+".labels."+advertiseLabel, text, backendRule(), r)
		}
	}
}
