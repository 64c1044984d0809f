"""What is known of most people, told from their scans."""
