"""Reads an iperf3 JSON document from standard input as its readers do, by iperf3's names alone; prints what it found, as JSON."""
import json
import sys

document = json.load(sys.stdin)
if document.get("error"):
    sys.exit("error: %s" % document["error"])

start = document["start"]
first = start["connected"][0]
end = document["end"]
rows = []
for interval in document["intervals"]:
    row = interval["sum"]
    rows.append([row["start"], row["end"], row["seconds"], row["bytes"], row["bits_per_second"], row["omitted"]])
    for stream in interval["streams"]:
        assert stream["bytes"] >= 0 and stream["seconds"] > 0 and stream["bits_per_second"] >= 0
        if stream["sender"]:
            assert stream["retransmits"] >= 0 and stream["snd_cwnd"] > 0 and stream["rtt"] > 0 and stream["rttvar"] >= 0

print(
    json.dumps(
        {
            "when": start["timestamp"]["timesecs"],
            "version": start["version"],
            "streams": start["test_start"]["num_streams"],
            "ports": [first["local_port"], first["remote_port"]],
            "hosts": [first["local_host"], first["remote_host"]],
            "rows": rows,
            "sent": end["sum_sent"]["bits_per_second"],
            "received": end["sum_received"]["bits_per_second"],
            "sent_bytes": end["sum_sent"]["bytes"],
            "seconds": end["sum_sent"]["seconds"],
            "retransmits": end["sum_sent"].get("retransmits"),
            "by_stream": [
                [one["sender"]["bytes"], one["sender"].get("retransmits"), one["sender"].get("mean_rtt"), one["receiver"]["bytes"]]
                for one in end["streams"]
            ],
            "cpu": [
                end["cpu_utilization_percent"][name]
                for name in ("host_total", "host_user", "host_system", "remote_total", "remote_user", "remote_system")
            ],
            "congestion": end.get("sender_tcp_congestion"),
        }
    )
)
