"""KV of vLLM through kvferry. vLLM loads `kvferry_vllm.connector.KvferryConnector`; see README.md for the command lines."""
