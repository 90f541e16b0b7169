"""The report: stored records as one page that opens without network, and as figures for a paper."""
