package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// publish prints the table and stores the results; without a folder it only prints. Without keep the folder stays as it is,
// and the measurements go where `bench report` can read them.
func (b *book) publish(folder string, keep bool, stdout io.Writer) error {
	var err error
	if b.notes, err = readNotes(filepath.Join(resultsFolder, notesFile)); err != nil {
		return err
	}
	b.print(stdout)
	if folder == "" || len(b.measured) == 0 {
		return nil
	}
	if !keep {
		if folder, err = os.MkdirTemp("", "mqttlb-bench-results-"); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Not everything was measured, so earlier results stay. What there is: %s\n", folder)
		fmt.Fprintf(stdout, "`bench report -from %s` stores it nevertheless.\n", filepath.Join(folder, resultFile))
	}
	return b.store(folder)
}

// reportCommand is `bench report`: it writes the page and the plots once more from stored measurements, such as after a
// change of the notes.
func reportCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	from := flags.String("from", filepath.Join(resultsFolder, resultFile), "`file` with measurements")
	folder := flags.String("results", resultsFolder, "`folder` for the page, the plots and the measurements")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	stored, err := readBook(*from)
	if err != nil {
		return err
	}
	return stored.publish(*folder, true, stdout)
}

// print shows the table with what is needed to judge it.
func (b *book) print(w io.Writer) {
	measured := b.measured
	fmt.Fprintln(w)
	b.head.write(w)
	fmt.Fprintf(w, "%s\n\n", b.plan)
	writeTable(w, measured, b.plan, b.head.Versions)
	if len(measured) == 0 {
		return
	}
	q := measured.quality()
	fmt.Fprintf(w, "\nA round trip is two forwarded messages. Latencies from the time at which a message was due.\n")
	fmt.Fprintf(w, "± is half the range of the rounds in terms of the median, for mqttlb.\n%s\n", q.text(len(measured)))
	const acceptableGap = 0.05
	if q.Disturbed > 0 {
		fmt.Fprintln(w, "Where the scheduler puts the processes decides more than the proxies do when a measurement is disturbed.")
	}
	if q.ClockGap > acceptableGap {
		fmt.Fprintf(w, "The two clocks of a proxy's CPU time differ by up to %.0f %%: do not trust these figures.\n", percent*q.ClockGap)
	}
	if missing := b.notes.missing(measured, b.plan); len(missing) > 0 {
		fmt.Fprintf(w, "mqttlb is behind in %d rows without a note in %s:\n", len(missing), notesFile)
		for _, key := range missing {
			fmt.Fprintln(w, "  "+key)
		}
	}
}
